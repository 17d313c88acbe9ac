"""Copies of a pool and what they are known by: new identities, atomically; one identity met twice (operations.md, Copies)."""

from __future__ import annotations

import itertools
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from core import layout
from core.base.crc32c import crc32c
from core.check import check
from core.pool.engine import Pool
from target.config import ServeConfig, own_name, target_name
from target.errors import LunetteError
from target.scsi import Target, TargetPort
from target.scsi.designators import naa
from target.scsi.model import Identity
from target.server.daemon import Daemon
from target.volumes.gateway import check_pool, create_pool, open_pool
from target.volumes.identity import Presence, describe_pool, new_identity
from target.volumes.owner import open_owned
from tests.support.memdevice import MemoryDevice
from tests.support.simdisk import SimDisk

MIB = 1 << 20
OLD, NEW = b"o" * 16, b"n" * 16


def filled(device: Any, name: str = "lab") -> None:
    """A pool with a volume, its snapshot and a clone, and a key."""
    Pool.create(device, name=name)
    pool = Pool(device)
    volume = pool.call("create", name="v", size_bytes=MIB)
    pool.call("write", object_id=volume, offset_bytes=0, data=b"a" * 8192)
    pool.call("snapshot", pairs=[(volume, "v@s")])
    pool.call("clone", source_id=volume, name="c")
    pool.call("kv", changes={"k": b"value"})
    pool.close()


def opened(device: Any) -> Pool:
    return Pool(device)


def serials(pool: Pool) -> dict[str, str]:
    return {each.name: each.serial for each in pool.objects()}


def aged(device: Any) -> None:
    """As a pool that was made before pools had an identity."""
    field = next(each for each in layout.SUPERBLOCK if each.name == "identity")
    for slot in layout.SUPERBLOCK_SLOTS:
        raw = bytearray(device.read(slot * 4096, 4096))
        raw[field.offset:field.offset + 16] = bytes(16)
        raw[8:12] = crc32c(bytes(raw[12:])).to_bytes(4, "little")
        device.write(slot * 4096, bytes(raw))


@pytest.mark.parametrize("old", [False, True])
def test_a_new_identity_changes_what_it_is_known_by_and_nothing_else(old: bool) -> None:
    device = MemoryDevice(64 * MIB)
    filled(device)
    if old:
        aged(device)
    pool = Pool(device)
    tag = bytes(device.read(0, 4096)[16:32])
    assert (pool.uuid, pool.identity) == (tag, b"" if old else tag)
    before = serials(pool)
    assert len({*before.values()}) == 3
    objects = [each._replace(serial="") for each in pool.objects()]
    pool.close()
    Pool.identify(device, identity=NEW, name="other")
    for _ in range(2):
        pool = Pool(device)
        assert (pool.uuid, pool.identity, pool.name) == (NEW, NEW, "other")
        after = serials(pool)
        assert not {*before.values()} & {*after.values()}
        assert len({naa(Identity(each, "volume")) for each in (*before.values(), *after.values())}) == 6
        assert [each._replace(serial="") for each in pool.objects()] == objects
        assert pool.kv() == {"k": b"value"}
        assert pool.call("read", object_id=pool.names()["v"], offset_bytes=0, length_bytes=8192) == b"a" * 8192
        pool.close()
    assert check(device).ok
    Pool.identify(device, identity=OLD)
    pool = Pool(device)
    assert (pool.uuid, pool.name) == (OLD, "other")
    assert not {*serials(pool).values()} & {*before.values(), *after.values()}
    pool.abandon()


def test_what_is_made_and_changed_later_keeps_its_serial() -> None:
    device = MemoryDevice(64 * MIB)
    filled(device)
    Pool.identify(device, identity=NEW)
    pool = Pool(device)
    given = "0123456789abcdef0123456789abcdef"
    number = pool.call("create", name="w", size_bytes=MIB, serial=given)
    before = serials(pool)
    assert before["w"] == given
    pool.call("rename", object_id=number, name="x")
    pool.call("set", object_id=pool.names()["v"], quota_bytes=MIB)
    pool.call("revert", volume_id=pool.names()["v"], snapshot_id=pool.names()["v@s"], safety_name="v@safe")
    for _ in range(2):
        now = serials(pool)
        assert {name: now[name] for name in ("v", "v@s", "c")} == {name: before[name] for name in ("v", "v@s", "c")}
        assert now["x"] == given
        pool.call("flush")
        pool.abandon()
        pool = Pool(device)
    pool.abandon()


@pytest.mark.parametrize("clean", [True, False])
@pytest.mark.parametrize("mode", ["none", "all", "random", "prefix"])
def test_a_power_cut_leaves_the_old_identity_or_the_new(mode: str, clean: bool) -> None:
    """At each operation on the medium, whichever of the unsynced sectors reach it."""
    seen: set[bytes] = set()
    for cut in itertools.count():
        disk = SimDisk(64 * MIB, seed=cut)
        Pool.create(disk, name="lab")
        pool = Pool(disk)
        number = pool.call("create", name="v", size_bytes=MIB)
        pool.call("write", object_id=number, offset_bytes=0, data=b"a" * 4096, fua=True)
        if clean:
            pool.close()
        else:
            pool.abandon()
            disk.power_cut("all")
        first = bytes(disk.read(0, 4096)[16:32])
        disk.cut_at = disk.operations + cut
        try:
            Pool.identify(disk, identity=NEW, name="other")
            over = True
        except BaseException:
            over = False
        disk.power_cut(mode)
        pool = Pool(disk)
        assert (pool.uuid, pool.name) in ((first, "lab"), (NEW, "other"))
        assert pool.call("read", object_id=number, offset_bytes=0, length_bytes=4096) == b"a" * 4096
        seen.add(pool.uuid if pool.uuid == NEW else OLD)
        pool.abandon()
        if over:
            assert pool.uuid == NEW
            break
    assert seen == {OLD, NEW}


# -- on files ------------------------------------------------------------------------------------------------------------
@pytest.fixture
def pool_path(tmp_path: Path) -> Path:
    path = tmp_path / "lab.pool"
    create_pool(path, name="lab", size_bytes=64 * MIB)
    return path


def test_names_are_told_apart_unless_chosen(pool_path: Path) -> None:
    before = describe_pool(pool_path)
    assert (before["name"], before["target"], before["owner"]) == ("lab", target_name("lab"), "nobody")
    first = new_identity(pool_path)
    assert first["name"] == f"lab-{first['uuid'][:8]}"
    assert first["target"] == target_name(first["name"])
    second = new_identity(pool_path)
    assert second["name"] == f"lab-{second['uuid'][:8]}"
    assert new_identity(pool_path, name="mine")["name"] == "mine"
    assert len({before["uuid"], first["uuid"], second["uuid"], describe_pool(pool_path)["uuid"]}) == 4
    with pytest.raises(LunetteError, match="lower-case"):
        new_identity(pool_path, name="Not This")
    assert check_pool(pool_path)[0]


def test_a_pool_in_use_keeps_its_identity_and_says_who_uses_it(pool_path: Path) -> None:
    device = open_owned(pool_path)
    with pytest.raises(LunetteError, match="open in another process"):
        new_identity(pool_path)
    assert f"process {os.getpid()} on " in describe_pool(pool_path)["owner"]
    device.close()
    assert describe_pool(pool_path)["owner"] == "nobody"


def test_what_is_no_pool_gets_no_identity(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes(MIB))
    with pytest.raises(LunetteError, match="not a Lunette pool"):
        new_identity(tmp_path / "x")


def daemon_on(path: Path, **more: Any) -> Daemon:
    """A daemon as far as its pool: open, owned and met with its like."""
    daemon = Daemon(ServeConfig(pool_path=path, **more))
    daemon._pool, daemon._device = open_pool(path, cache_bytes=MIB)
    return daemon


def closed(daemon: Daemon) -> None:
    if daemon._presence is not None:
        daemon._presence.close()
    daemon._pool.close()
    daemon._device.close()


def test_one_identity_is_served_once_on_a_machine(pool_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    twin = pool_path.with_name("twin.pool")
    shutil.copyfile(pool_path, twin)
    first, second = daemon_on(pool_path), daemon_on(twin)
    first._meet_its_like()
    assert first._presence is not None
    first._presence._socket.settimeout(60)
    answers = [threading.Thread(target=first._presence.answer) for _ in range(2)]
    for each in answers:
        each.start()
    with pytest.raises(LunetteError, match=f"process {os.getpid()} serves on this machine.*new-identity {twin}"):
        second._meet_its_like()
    closed(second)
    third = daemon_on(twin, same_identity=True)
    third._meet_its_like()
    assert third.shared_identity == f"process {os.getpid()}"
    assert "one disk" in caplog.text
    for each in answers:
        each.join()
    closed(third)
    new_identity(twin)
    fourth = daemon_on(twin)
    fourth._meet_its_like()
    assert fourth.shared_identity == ""
    closed(fourth)
    closed(first)
    fifth = daemon_on(pool_path)
    fifth._meet_its_like()
    closed(fifth)


def test_who_is_gone_holds_no_identity() -> None:
    identity = os.urandom(16)
    one = Presence(identity)
    second = Presence(identity)         # nobody is there to answer: as if it were stopped
    assert (one.other, second.other, second.answered) == (None, os.getpid(), False)
    one.close()
    two = Presence(identity)
    assert two.other is None
    two.close()


def test_ports_of_two_targets_of_one_name_are_told_apart() -> None:
    names = [Target(target_name("lab"), (TargetPort(1, 1), TargetPort(2, 2)), own_name(identity)) for identity in (OLD, NEW, b"")]
    ports = [target.port_name(port) for target in names for port in target.ports.values()]
    assert len({*ports}) == 6
    assert ports[-2:] == [f"{target_name('lab')},t,0x0001", f"{target_name('lab')},t,0x0002"]
    assert all(port.startswith("iqn.") for port in ports)
    assert all(target.device_names()[-1] == target_name("lab") for target in names)
