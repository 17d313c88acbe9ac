"""The command line against a control plane on a fake pool: what it prints, refuses and returns (docs/operations.md)."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from pathlib import Path

import pytest

from target.errors import LunetteError
from target.volumes.catalog import Catalog, Thresholds
from tests.server.conftest import Control

SECRET = "correct-horse-battery"


async def test_a_volume_is_created_connected_and_listed(control: Control) -> None:
    assert "iscsi://127.0.0.1:3260/iqn.2026-11.dev.lunette:fake/0" in await control.ok("create", "v", "--size", "10G")
    row = (await control.ls())["v"]
    assert (row["kind"], row["size_bytes"], row["lun"], row["origin"]) == ("volume", 10 << 30, 0, None)
    assert {"mapped_bytes", "exclusive_bytes", "url"} <= set(row)


async def test_snapshots_are_not_connected_until_asked(control: Control) -> None:
    await control.ok("create", "v", "--size", "1G")
    await control.ok("snapshot", "v@s")
    await control.ok("clone", "v@s", "c")
    await control.ok("clone", "v", "d")
    rows = await control.ls()
    assert [rows[name]["lun"] for name in ("v", "v@s", "c", "d")] == [0, None, 1, 2]
    assert [rows[name]["kind"] for name in ("v", "v@s", "c", "d")] == ["volume", "snapshot", "clone", "clone"]
    assert rows["c"]["origin"] == "v@s"
    await control.ok("connect", "v@s", "--lun", "9")
    assert (await control.ls())["v@s"]["lun"] == 9
    await control.ok("disconnect", "v@s")
    assert (await control.ls())["v@s"]["lun"] is None


async def test_objects_go_in_any_order(control: Control) -> None:
    await control.ok("create", "v", "--size", "1G")
    await control.ok("snapshot", "v@s")
    await control.ok("delete", "v")
    assert list(await control.ls()) == ["v@s"]
    assert (await control.cli("clone", "v@s", "v"))[0] == 0
    await control.ok("delete", "v@s", "v")
    assert await control.ls() == {}


@pytest.mark.parametrize(("args", "message"), [
    (["delete", "absent"], "there is no 'absent'"),
    (["create", "v", "--size", "1G"], "create v: the name is taken"),
    (["create", "a@b", "--size", "1G"], "'a@b' is not a name"),
    (["create", "w", "--size", "0"], "a volume's size is more than 0"),
    (["create", "x" * 129, "--size", "1G"], "a name has at most 128 characters, not 129"),
    (["snapshot", "v@" + "x" * 127], "a label has at most 126 characters, not 127"),
    (["resize", "v", "1000K"], "v has 1G; --force"),
    (["snapshot", "v"], "'v' is not a snapshot's name"),
    (["resize", "v", "1M"], "--force"),
    (["connect", "v", "--lun", "9"], "already"),
    (["connect", "v", "--host", "nobody"], "there is no host 'nobody'"),
    (["ls", "absent"], "there is no 'absent'"),
    (["hold", "absent", "t"], "there is no 'absent'"),
    (["hold", "v", "a b"], "'a b' is not a tag"),
    (["hold", "v", "x" * 65], "at most 64"),
    (["release", "v", "t"], "v is not held by 't'"),
    (["diff", "v", "absent"], "there is no 'absent'"),
])
async def test_refusals_are_one_line_and_status_1(control: Control, args: list[str], message: str) -> None:
    await control.ok("create", "v", "--size", "1G")
    status, out, err = await control.cli(*args)
    assert (status, out) == (1, "")
    assert err.startswith("lunette: ")
    assert err.count("\n") == 1
    assert message in err


@pytest.mark.parametrize("args", [["create", "v"], ["create", "v", "--size", "much"], ["nonsense"], ["ls", "--no-such"],
                                  ["serve", "p", "--listen", "x:y:z"], ["pool", "create"], ["target", "group", "1"],
                                  ["connect", "v", "--lun", "99999"]])
async def test_misuse_is_status_2(control: Control, args: list[str]) -> None:
    status, _, err = await control.cli(*args)
    assert status == 2
    assert err.startswith("lunette: ")
    assert err.count("\n") == 1


async def test_no_daemon_is_one_clear_line(control: Control, tmp_path: Path) -> None:
    control.socket = tmp_path / "nowhere"
    status, _, err = await control.cli("ls")
    assert status == 1
    assert "no daemon answers at" in err


async def test_the_api_socket_is_for_its_owner_alone(control: Control) -> None:
    assert stat.S_IMODE(os.stat(control.socket).st_mode) == 0o600


async def test_the_api_takes_no_files_place(control: Control, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("kept")
    await control.ok("pool", "create", str(tmp_path / "pool"), "--size", "24M")
    status, _, err = await control.cli("serve", str(tmp_path / "pool"), "--listen", "127.0.0.1:0", "--api", str(precious))
    assert (status, err.count("\n")) == (1, 1)
    assert "is there and no socket: it is left alone" in err
    assert precious.read_text() == "kept"


async def test_rename_keeps_lun_and_takes_snapshots_along(control: Control) -> None:
    await control.ok("create", "v", "--size", "1G")
    await control.ok("snapshot", "v@s")
    await control.ok("rename", "v", "w")
    rows = await control.ls()
    assert set(rows) == {"w", "w@s"}
    assert rows["w"]["lun"] == 0


async def test_labels_are_set_and_removed(control: Control) -> None:
    await control.ok("create", "v", "--size", "1G", "--label", "a=1")
    await control.ok("label", "v", "b=2", "a-")
    assert (await control.ls())["v"]["labels"] == {"b": "2"}


async def test_a_group_snapshot_is_one_operation(control: Control) -> None:
    for name in ("a", "b"):
        await control.ok("create", name, "--size", "1G")
    await control.ok("snapshot", "a@x", "b@x")
    assert [args["pairs"] for op, args in control.pool.started if op == "snapshot"] == [[(1, "a@x"), (2, "b@x")]]


async def test_revert_can_keep_what_it_replaces(control: Control) -> None:
    await control.ok("create", "v", "--size", "1G")
    await control.ok("snapshot", "v@s")
    await control.ok("revert", "v@s", "--safety", "before")
    assert set(await control.ls()) == {"v", "v@s", "v@before"}


async def test_sizes_are_rounded_up_to_whole_blocks_and_that_is_said(control: Control) -> None:
    out = await control.ok("create", "v", "--size", "1000001")
    assert out.splitlines()[1:] == ["v: 1000001 bytes asked for, rounded up to 1003520"]
    assert (await control.ls())["v"]["size_bytes"] == 1003520
    assert (await control.ok("resize", "v", "8M")).count("\n") == 1
    assert "rounded up to 8392704" in await control.ok("resize", "v", "8388609")
    assert await control.ok("batch", stdin="create w --size 1\ncreate x --size 1M\n") == (
        "line 1: w: 1 bytes asked for, rounded up to 4096\n")


async def test_names_have_up_to_128_characters_and_labels_126(control: Control) -> None:
    long, longer, label = "v" * 120, "w" * 128, "s" * 126
    await control.ok("create", long, "--size", "1M")
    await control.ok("snapshot", f"{long}@{label}")
    await control.ok("rename", long, longer)
    assert list(await control.ls()) == [longer, f"{longer}@{label}"]
    status, _, err = await control.cli("rename", longer, "w" * 129)
    assert (status, err.count("\n"), "not 129" in err) == (1, 1, True)
    await control.ok("revert", f"{longer}@{label}")
    await control.ok("clone", f"{longer}@{label}", "y" * 128)
    await control.ok("delete", f"{longer}@{label}")
    await control.ok("delete", "y" * 128)
    assert list(await control.ls()) == [longer]
    await control.ok("create", "x" * 128, "--size", "1M")
    await control.ok("delete", "x" * 128)


async def test_new_volumes_report_a_physical_block_of_4_kib(control: Control) -> None:
    await control.ok("create", "a", "--size", "1M")
    await control.ok("create", "b", "--size", "1M", "--physical-block", "512")
    await control.ok("create", "c", "--size", "1M", "--block-size", "4096")
    listed = await control.ls()
    assert {name: (row["block_bytes"], row["physical_block_bytes"]) for name, row in listed.items()} == {
        "a": (512, 4096), "b": (512, 512), "c": (4096, 4096)}


async def test_a_batch_keeps_order_where_lines_depend_on_each_other(control: Control) -> None:
    lines = ["create v --size 1G", "# a comment", "", *(f"snapshot v@s{i}" for i in range(50)),
             *(f"clone v@s{i} c{i}" for i in range(20)), *(f"delete v@s{i}" for i in range(50)), "label c3 'a=x y'",
             "rename c3 d3", "delete c4"]
    await control.ok("batch", stdin="\n".join(lines))
    rows = await control.ls()
    assert set(rows) == {"v", "d3", *(f"c{i}" for i in range(20))} - {"c3", "c4"}
    assert rows["d3"]["labels"] == {"a": "x y"}


async def test_a_batch_stops_at_the_first_error_and_names_its_line(control: Control) -> None:
    status, _, err = await control.cli("batch", stdin="create v --size 1G\n\nsnapshot w@s\nrename v x\n")
    assert status == 1
    assert err == "lunette: line 3: there is no 'w'\n"
    assert list(await control.ls()) == ["v"]


async def test_a_batch_can_go_on_after_errors(control: Control) -> None:
    status, _, err = await control.cli("batch", "-k", stdin="create v --size 1G\nnonsense\nsnapshot w@s\nclone v x\n")
    assert status == 1
    assert sorted(err.splitlines()) == ["lunette: line 2: 'nonsense' is not a command of a batch",
                                        "lunette: line 3: there is no 'w'"]
    assert set(await control.ls()) == {"v", "x"}


async def test_a_batch_never_runs_what_is_no_management_command(control: Control) -> None:
    for line in ("ls", "serve pool", "pool create /tmp/x --size 1G", "batch", "create --help"):
        status, _, err = await control.cli("batch", stdin=line + "\n")
        assert (status, err.startswith("lunette: line 1: ")) == (1, True), line


async def test_a_batch_of_rubbish_is_one_line(control: Control, tmp_path: Path) -> None:
    rubbish = tmp_path / "rubbish"
    rubbish.write_bytes(b"create v --size 1G\n\xff\xfe\x00 what\r\n")
    status, _, err = await control.cli("batch", str(rubbish))
    assert (status, err.count("\n")) == (1, 1)
    assert err.startswith("lunette: line 2: ")
    assert list(await control.ls()) == ["v"]


async def test_secrets_come_from_files_and_are_shown_nowhere(closed_control: Control, tmp_path: Path) -> None:
    control = closed_control
    secret = tmp_path / "secret"
    secret.write_text(SECRET + "\n")
    out = await control.ok("host", "create", "web", "iqn.2026-01.test:web", "--secret-file", str(secret))
    out += await control.ok("host", "ls") + await control.ok("host", "ls", "--json")
    assert SECRET not in out
    assert json.loads(await control.ok("host", "ls", "--json"))[0]["chap"] == "iqn.2026-01.test:web"
    host = control.daemon.catalog.host("web")
    assert host.chap is not None
    assert host.chap.secret == SECRET.encode()


@pytest.mark.parametrize(("args", "message"), [
    (["--secret-file", "/dev/zero"], "cannot read a secret from /dev/zero: it is too long"),
    (["--chap"], "asks at a terminal"),
])
async def test_a_secret_that_cannot_be_had_is_one_line(closed_control: Control, args: list[str], message: str) -> None:
    status, out, err = await closed_control.cli("host", "create", "web", "iqn.2026-01.test:web", *args)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert message in err
    assert json.loads(await closed_control.ok("host", "ls", "--json")) == []


@pytest.mark.parametrize(("contents", "message"), [
    (b"\xef\xbb\xbfa secret of ours", "byte order mark"), ("a secret of ours".encode("utf-16"), "byte order mark"),
    (b"a secret \x80\xff of ours", "byte 9 is binary"), (b"a secret\0 of ours", "control characters"),
    (b"a secret of ours\nand another\n", "several lines"), (b"x" * 4096, "it is too long"), (b"short\n", "12 to 255 bytes"),
])
@pytest.mark.parametrize("option", ["--secret-file", "--mutual-secret-file"])
async def test_a_file_that_holds_no_secret_is_refused_and_not_shown(closed_control: Control, tmp_path: Path, contents: bytes,
                                                                    message: str, option: str) -> None:
    (tmp_path / "good").write_bytes("sécret of ours".encode() + b"\r\n")
    (tmp_path / "bad").write_bytes(contents)
    args = [option, str(tmp_path / "bad")]
    if option != "--secret-file":
        args += ["--secret-file", str(tmp_path / "good")]
    status, out, err = await closed_control.cli("host", "create", "web", "iqn.2026-01.test:web", *args)
    assert (status, out, err.count("\n"), message in err) == (1, "", 1, True), err
    assert "secret of" not in err
    await closed_control.ok("host", "create", "web", "iqn.2026-01.test:web", "--secret-file", str(tmp_path / "good"))
    chap = closed_control.daemon.catalog.host("web").chap
    assert chap is not None
    assert chap.secret == "sécret of ours".encode()


async def test_an_initiator_that_is_not_there_cannot_be_removed(closed_control: Control) -> None:
    await closed_control.ok("host", "create", "web", "iqn.2026-01.test:web")
    status, _, err = await closed_control.cli("host", "change", "web", "--remove", "iqn.2026-01.test:wbe")
    assert (status, err) == (1, "lunette: web has no initiator 'iqn.2026-01.test:wbe'\n")


async def test_an_initiator_is_removed_by_any_form_of_its_name(closed_control: Control) -> None:
    await closed_control.ok("host", "create", "web", "iqn.2026-01.test:Web", "iqn.2026-01.test:b")
    left = await closed_control.ok("host", "change", "web", "--remove", "iqn.2026-01.test:WE\uff22")
    assert left == "web  iqn.2026-01.test:b  CHAP no\n"
    status, out, err = await closed_control.cli("host", "create", "x", "iqn.2026-01.test:a\u3002b")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "U+3002" in err


async def test_deny_by_default_asks_for_a_host(closed_control: Control) -> None:
    control = closed_control
    await control.ok("create", "v", "--size", "1G")
    assert (await control.ls())["v"]["lun"] is None
    status, _, err = await control.cli("connect", "v")
    assert (status, "--host" in err) == (1, True)
    await control.ok("host", "create", "web", "iqn.2026-01.test:web")
    await control.ok("connect", "v", "--host", "web", "--lun", "4")
    assert (await control.ls())["v"]["connections"] == [{"host": "web", "lun": 4}]
    assert control.daemon.access.lun_map("iqn.2026-01.test:web") == {4: 1}
    assert control.daemon.access.lun_map("iqn.2026-01.test:other") == {}


async def test_scrub_reports_what_it_read(control: Control) -> None:
    await control.ok("create", "v", "--size", "16M")
    await control.daemon.pool.call("write", object_id=1, offset_bytes=0, data=b"x" * 8192)
    assert "clean: 1 of 1 objects, 8K read" in await control.ok("scrub")


async def test_scrub_names_damaged_blocks(control: Control) -> None:
    await control.ok("create", "v", "--size", "16M")
    await control.daemon.pool.call("write", object_id=1, offset_bytes=0, data=b"x" * 8192)
    control.pool.fail["read"] = "checksum"
    status, out, _ = await control.cli("scrub")
    assert status == 1
    assert "damaged: v 8192 bytes at 0 (checksum)" in out


async def test_diff_prints_who_and_changed_ranges_as_json(control: Control) -> None:
    await control.ok("create", "v", "--size", "16M")
    await control.ok("snapshot", "v@s")
    objects = await control.ls()
    who = {side: {"name": name, "guid": objects[name]["serial"], "size_bytes": 16 << 20}
           for side, name in (("a", "v@s"), ("b", "v"))}
    assert len(who["a"]["guid"]) == 32
    assert json.loads(await control.ok("diff", "v@s", "v")) == [who]
    assert json.loads(await control.ok("diff", "v@s", "v", "--no-header")) == []
    await control.daemon.pool.call("write", object_id=1, offset_bytes=8192, data=b"x" * 4096)
    changed = {"offset_bytes": 8192, "length_bytes": 4096, "content": "data"}
    assert json.loads(await control.ok("diff", "v@s", "v", "--json")) == [who, changed]
    await control.ok("resize", "v", "24M")
    who["b"]["size_bytes"] = 24 << 20
    grown = {"offset_bytes": 16 << 20, "length_bytes": 8 << 20, "content": "hole"}
    assert json.loads(await control.ok("diff", "v@s", "v")) == [who, changed, grown]
    assert json.loads(await control.ok("diff", "v@s", "v", "--offset", "12K")) == [who, grown]
    assert json.loads(await control.ok("diff", "v@s", "v", "--limit", "1", "--no-header")) == [changed]
    assert json.loads(await control.ok("diff", "v", "v@s", "--offset", "1M")) == [{"a": who["b"], "b": who["a"]}, {
        **grown, "content": "beyond"}]


async def test_what_is_held_is_not_deleted_by_force_either(control: Control) -> None:
    await control.ok("create", "v", "--size", "16M")
    await control.ok("snapshot", "v@s")
    assert await control.ok("hold", "v@s", "backup") == "v@s  snapshot  held by backup\n"
    assert json.loads(await control.ok("hold", "v@s", "audit", "--json"))["holds"] == ["backup", "audit"]
    rows = await control.ls()
    assert (rows["v"]["holds"], rows["v@s"]["holds"]) == ([], ["backup", "audit"])
    assert "HELD BY" in await control.ok("ls")
    refusal = "v@s is held by backup, audit; lunette release v@s TAG lets go of it\n"
    for force in ([], ["--force"]):
        assert await control.cli("delete", "v@s", *force) == (1, "", f"lunette: {refusal}")
        line = " ".join(["delete", "v", "v@s", *force])
        assert await control.cli("batch", stdin=line) == (1, "", f"lunette: line 1: {refusal}")
    await control.ok("batch", stdin="release v@s audit\nrelease v@s backup\ndelete v@s\n")
    assert set(await control.ls()) == {"v"}
    assert not [key for key in control.pool.kv() if key.startswith("hold/")]


async def test_a_hold_counts_before_it_is_stored_and_a_deletion_before_it_is_done(control: Control) -> None:
    """Whichever of the two began first wins, however long either takes."""
    run, pool = control.daemon.commands.run, control.pool
    await run("create", {"name": "v", "size_bytes": 4096})
    pool.hold = True
    holding = asyncio.create_task(run("hold", {"name": "v", "tag": "t"}))
    await asyncio.sleep(0)
    with pytest.raises(LunetteError, match="v is held by t"):
        await run("delete", {"names": ["v"], "force": True})
    releasing = asyncio.create_task(run("release", {"name": "v", "tag": "t"}))
    await asyncio.sleep(0)
    with pytest.raises(LunetteError, match="v is held by t"):
        await run("delete", {"names": ["v"], "force": True})
    pool.release()
    await asyncio.gather(holding, releasing)
    deleting = asyncio.create_task(run("delete", {"names": ["v"]}))
    await asyncio.sleep(0)
    with pytest.raises(LunetteError, match=r"v is being deleted|there is no .v."):
        await run("hold", {"name": "v", "tag": "t"})
    await deleting
    assert not [key for key in pool.kv() if key.startswith("hold/")]


async def test_a_hold_that_cannot_be_stored_holds_nothing(control: Control) -> None:
    await control.ok("create", "v", "--size", "16M")
    control.pool.fail["kv"] = "no_space"
    assert await control.cli("hold", "v", "t") == (1, "", "lunette: keep the holds of v: the pool is full\n")
    assert (await control.ls())["v"]["holds"] == []


async def test_listings_have_tables_and_json(control: Control) -> None:
    await control.ok("create", "v", "--size", "1G")
    assert await control.ok("sessions") != ""
    assert json.loads(await control.ok("sessions", "--json")) == []
    assert "sessions 0" in await control.ok("stats")
    assert json.loads(await control.ok("stats", "--json"))["pool"]["objects"] == 1
    assert json.loads(await control.ok("pool", "info", "--json"))["name"] == "fake"
    assert (await control.ok("ls")).splitlines()[0].split()[:3] == ["NAME", "KIND", "SIZE"]


async def test_thresholds_of_the_pools_use_are_kept_and_checked(control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    async def shown() -> list[object]:
        value = json.loads(await control.ok("pool", "info", "--json"))
        return [value[key] for key in ("soft_percent", "hard_percent", "space")]

    assert await shown() == [80, 95, "ok"]
    assert "soft 50 %  hard 95 %  now ok" in await control.ok("pool", "set", "--soft", "50")
    status, _, error = await control.cli("pool", "set", "--hard", "40")
    assert status == 1
    assert "the soft one not above the hard one" in error
    assert await shown() == [50, 95, "ok"]
    stored = control.daemon.pool.kv()
    assert Catalog(control.daemon.pool).thresholds == Thresholds(50, 95)
    assert json.loads(stored["thresholds"]) == {"soft_percent": 50, "hard_percent": 95}
    for percent, space in ((60, "soft"), (96, "hard"), (10, "ok")):     # as it is now, not when the monitor looked last
        used = control.pool.size_bytes * percent // 100
        monkeypatch.setattr(control.pool, "stats", lambda used=used: {"used_bytes": used, "free_bytes": 1})
        assert await shown() == [50, 95, space]
