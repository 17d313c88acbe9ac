"""A pool's configuration leaves in a document and comes into another pool: all of it or nothing, secrets apart."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from target.errors import LunetteError
from target.models.checking import check
from target.models.configuration import ConfigurationImport
from target.server.api.audit import shown
from target.server.caller import CALLER, Identity
from target.volumes.catalog import Catalog
from tests.server.conftest import Control, make_control
from tests.support.fake_pool import FakePool

SECRET, MUTUAL = "a-secret-of-web1", "what-we-prove-to-it"
MADE = """create web --size 1M
create db --size 1M
snapshot web@s
host create web1 iqn.2026-01.test:web1 iqn.2026-01.test:web1b --events
host create plain iqn.2026-01.test:plain
connect web --host web1 --lun 7
connect web@s --host web1 --lun 300
connect db --host plain
set db --iops 500 --bandwidth 1M --burst 10s
host set web1 --bandwidth 100M
schedule create hourly --select 'web*' --cron '0 * * * *' --tz Europe/Berlin --keep last=4,daily=2 --group
pool set --soft 70 --hard 90
"""


async def filled(control: Control, tmp_path: Path) -> tuple[Path, Path]:
    """A control plane in use; its document and the secrets beside it."""
    secret, mutual = tmp_path / "secret", tmp_path / "mutual"
    secret.write_text(SECRET + "\n")
    mutual.write_text(MUTUAL + "\n")
    await control.ok("batch", stdin=MADE)
    await control.ok("host", "change", "web1", "--secret-file", str(secret), "--mutual-secret-file", str(mutual))
    document, secrets = tmp_path / "config.json", tmp_path / "secrets.json"
    await control.ok("pool", "export-config", str(document), "--secrets", str(secrets))
    return document, secrets


@pytest.fixture
async def other(tmp_path: Path) -> Any:
    """Another pool, with volumes of the same names."""
    (tmp_path / "other").mkdir()
    pool = FakePool()
    made, api = await make_control(tmp_path / "other", pool, open_access=False)
    await made.ok("batch", stdin="create unlike --size 1M\ncreate db --size 1M\ncreate web --size 1M\nsnapshot web@s\n")
    yield made
    await api.stop()
    made.daemon.pool.detach()
    pool.close()


async def state(control: Control) -> Any:
    """What listings say of what an import is about."""
    rows = [json.loads(await control.ok(*words, "--json")) for words in (["ls"], ["host", "ls"], ["schedule", "ls"])]
    kept = ("name", "connections", "iops", "bandwidth_bytes", "burst_seconds", "initiators", "chap", "mutual_chap", "events",
            "luns", "select", "cron", "zone", "keep", "group", "paused")
    return [[{key: row[key] for key in kept if key in row} for row in each if row["name"] != "unlike"] for each in rows]


async def test_another_pool_becomes_the_same(closed_control: Control, other: Control, tmp_path: Path) -> None:
    document, secrets = await filled(closed_control, tmp_path)
    said = await other.ok("pool", "import-config", str(document), "--secrets", str(secrets), "--dry-run")
    assert "would add host web1\n" in said
    assert json.loads(await other.ok("host", "ls", "--json")) == []
    said = await other.ok("pool", "import-config", str(document), "--secrets", str(secrets))
    assert "add web@s as LUN 300 for web1\n" in said
    assert "add schedule hourly\n" in said
    assert await state(other) == await state(closed_control)
    host = other.daemon.catalog.host("web1")
    assert host.chap is not None
    assert (host.chap.secret, host.chap.mutual_secret) == (SECRET.encode(), MUTUAL.encode())
    assert other.daemon.catalog.thresholds.soft_percent == 70
    kept = Catalog(other.daemon.pool)                               # what a restart would read
    assert (kept.hosts(), kept.connections()) == (other.daemon.catalog.hosts(), other.daemon.catalog.connections())
    assert (await other.ok("pool", "import-config", str(document))).startswith("0 changed, ")     # it has the secrets by now


async def test_secrets_are_in_a_file_for_the_owner_alone(closed_control: Control, tmp_path: Path) -> None:
    document, secrets = await filled(closed_control, tmp_path)
    assert SECRET not in document.read_text() + await closed_control.ok("pool", "export-config")
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o600
    assert json.loads(secrets.read_text()) == {"web1": {"secret": SECRET, "mutual_secret": MUTUAL}}
    status, _, error = await closed_control.cli("pool", "export-config", str(document))
    assert (status, "File exists" in error) == (1, True)
    args = check(ConfigurationImport, {"configuration": json.loads(document.read_text()),
                                       "secrets": json.loads(secrets.read_text())})
    assert shown(args)["secrets"] == "***"
    CALLER.set(Identity("token:ci", "admin"))
    with pytest.raises(LunetteError, match="Unix socket only"):
        await closed_control.daemon.commands.run("config_export", {"secrets": True})


@pytest.mark.parametrize(("change", "message"), [
    (lambda document: None, "--secrets says where"),
    (lambda document: document["connections"].append({"object": "none", "lun": 1, "host": "plain"}), "there is no 'none'"),
    (lambda document: document["connections"].append({"object": "web", "lun": 1, "host": "none"}), "there is no host 'none'"),
    (lambda document: document["hosts"][0]["initiators"].append("iqn.2026-01.test:web1"), "would belong to the hosts"),
    (lambda document: document["schedules"][0].update(cron="61 * * * *"), "is not a schedule of cron"),
    (lambda document: document.update(version=2), "version"),
    (lambda document: document["hosts"][0].update(frob=1), "frob"),
])
async def test_what_cannot_be_taken_whole_changes_nothing(closed_control: Control, other: Control, tmp_path: Path, change: Any,
                                                          message: str) -> None:
    document, secrets = await filled(closed_control, tmp_path)
    value = json.loads(document.read_text())
    change(value)
    document.write_text(json.dumps(value))
    before, kept = await state(other), other.daemon.pool.kv()
    extra = [] if message.startswith("--secrets") else ["--secrets", str(secrets)]
    status, _, error = await other.cli("pool", "import-config", str(document), *extra)
    assert (status, message in error) == (1, True), error
    assert (await state(other), other.daemon.pool.kv()) == (before, kept)


async def test_what_is_there_and_different_wants_force(closed_control: Control, other: Control, tmp_path: Path) -> None:
    document, secrets = await filled(closed_control, tmp_path)
    await other.ok("batch", stdin="host create web1 iqn.2026-01.test:web1\nconnect unlike --host web1 --lun 7\n"
                                  "connect web --host web1 --lun 9\nset db --iops 1\n")
    status, _, error = await other.cli("pool", "import-config", str(document), "--secrets", str(secrets))
    assert (status, "host web1" in error, "--force" in error) == (1, True, True)
    await other.ok("pool", "import-config", str(document), "--secrets", str(secrets), "--force")
    assert await state(other) == await state(closed_control)
    assert {each.lun for each in other.daemon.catalog.connections()} == {0, 7, 300}
    kept = Catalog(other.daemon.pool)
    assert kept.connections() == other.daemon.catalog.connections()


async def test_objects_that_are_not_there_can_be_left_out(closed_control: Control, other: Control, tmp_path: Path) -> None:
    document, secrets = await filled(closed_control, tmp_path)
    await other.ok("delete", "db")
    status, said, error = await other.cli("pool", "import-config", str(document), "--secrets", str(secrets), "--partial")
    assert (status, error) == (0, "not there: db\nnot there: db\n")
    assert "web as LUN 7" in said


async def test_nothing_is_left_of_an_import_that_the_pool_cannot_keep(closed_control: Control, other: Control, tmp_path: Path,
                                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    from target.volumes.gateway import PoolError

    document, secrets = await filled(closed_control, tmp_path)
    before = await state(other)

    async def full(op: str, **_: Any) -> Any:
        raise PoolError("no_space", "no space")

    with monkeypatch.context() as patched:
        patched.setattr(other.daemon.pool, "call", full)
        status, _, _ = await other.cli("pool", "import-config", str(document), "--secrets", str(secrets))
    assert status == 1
    assert await state(other) == before


async def test_the_trail_of_an_import_can_be_read_and_tells_no_secret(closed_control: Control, other: Control,
                                                                      tmp_path: Path) -> None:
    document, secrets = await filled(closed_control, tmp_path)
    await other.ok("pool", "import-config", str(document), "--secrets", str(secrets))
    for command in ("audit", "events"):
        said = await other.ok(command, "--json")
        assert "config_import" in said
        assert SECRET not in said
