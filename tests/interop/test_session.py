"""Sessions as an independent initiator sees them: LUNs, isolation, attentions, forced deletes, stops (RFC 7143, SAM-5)."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import pytest

from target.iscsi.pdu import AsyncMessage, NopIn, NopOut
from target.volumes.gateway import open_pool
from tests.interop.conftest import Start
from tests.support.daemon import DaemonProcess, Refused
from tests.support.libiscsi import CHECK_CONDITION, GOOD, POWER_ON, Initiator, InitiatorError, discover
from tests.support.session import Connection
from tests.support.waiting import PATIENCE_SECONDS

pytestmark = pytest.mark.needs("libiscsi")

LUNS_CHANGED, CAPACITY_CHANGED, MEDIUM_CHANGED, NOT_SUPPORTED, PROTECTED = 0x3F0E, 0x2A09, 0x2800, 0x2500, 0x2700
SECRET, OTHER = "correct-horse-battery", "staple-correct-horse"
WEB, DB = "iqn.2026-01.test:web", "iqn.2026-01.test:db"


def connect(daemon: DaemonProcess, **more: object) -> Initiator:
    return Initiator(daemon.portal, daemon.target, **more)  # type: ignore[arg-type]


def test_what_is_written_is_read_again_over_sessions_and_restarts(daemon: DaemonProcess) -> None:
    daemon.cli("create", "v", "--size", "64M")
    pattern = bytes(range(256)) * 256
    with connect(daemon) as initiator:
        assert initiator.settle() == [POWER_ON]
        assert initiator.capacity(0) == (131072, 512)
        assert initiator.write(0, 1000, pattern).status == GOOD
        assert initiator.synchronize_cache().status == GOOD
        assert initiator.read(0, 1000, 128).data == pattern
    daemon.restart()
    with connect(daemon) as initiator:
        initiator.settle()
        assert initiator.read(0, 1000, 128).data == pattern
        assert initiator.read(0, 999, 1).data == bytes(512)


def test_flushed_data_survives_a_kill(daemon: DaemonProcess) -> None:
    daemon.cli("create", "v", "--size", "64M")
    initiator = connect(daemon)
    initiator.settle()
    initiator.write(0, 8, b"a" * 4096)
    initiator.synchronize_cache()
    initiator.write(0, 16, b"b" * 4096, fua=True)
    daemon.stop(signal.SIGKILL)
    initiator.drop()
    daemon.start()
    with connect(daemon) as again:
        again.settle()
        assert again.read(0, 8, 16).data == b"a" * 4096 + b"b" * 4096
    daemon.stop()
    assert "clean" in daemon.check()


def test_lun_0_answers_when_there_is_nothing(daemon: DaemonProcess) -> None:
    with connect(daemon) as initiator:
        assert initiator.inquiry(0)[0] >> 5 in (1, 3)
        assert initiator.luns() in ([], [0])
        assert initiator.test_unit_ready(0).asc == NOT_SUPPORTED


def test_reads_and_writes_stay_on_the_fast_path(daemon: DaemonProcess) -> None:
    daemon.cli("create", "v", "--size", "64M")
    with connect(daemon) as initiator:
        initiator.settle()
        before = daemon.stats()["luns"][0]
        for block in range(0, 800, 8):
            initiator.write(0, block, b"x" * 4096)
            initiator.read(0, block, 8)
        initiator.synchronize_cache()
        initiator.test_unit_ready()
        after = daemon.stats()["luns"][0]
    assert after["slow"] == before["slow"]
    assert after["fast_reads"] - before["fast_reads"] == 100
    assert after["fast_writes"] - before["fast_writes"] == 100


def test_luns_come_and_go_under_a_live_session(daemon: DaemonProcess) -> None:
    daemon.cli("create", "v", "--size", "64M")
    with connect(daemon) as initiator:
        initiator.settle()
        daemon.cli("snapshot", "v@s")
        assert initiator.settle() == []
        daemon.cli("connect", "v@s", "--lun", "5")
        assert initiator.settle() == [LUNS_CHANGED]
        assert initiator.luns() == [0, 5]
        initiator.settle(5)
        answer = initiator.write(5, 0, b"x" * 512)
        assert (answer.status, answer.key, answer.asc) == (CHECK_CONDITION, 7, PROTECTED)
        with pytest.raises(Refused, match=r"v@s is in use by \S+ from 127.0.0.1; --force takes it"):
            daemon.cli("disconnect", "v@s")
        daemon.cli("disconnect", "v@s", "--force")
        assert initiator.settle() == [LUNS_CHANGED]
        assert initiator.test_unit_ready(5).asc == NOT_SUPPORTED
        assert initiator.luns() == [0]


def test_a_resize_is_told_and_the_new_end_is_usable(daemon: DaemonProcess) -> None:
    daemon.cli("create", "v", "--size", "64M")
    with connect(daemon) as initiator:
        initiator.settle()
        daemon.cli("resize", "v", "128M")
        assert initiator.settle() == [CAPACITY_CHANGED]
        assert initiator.capacity(0) == (262144, 512)
        assert initiator.write(0, 262143, b"x" * 512).status == GOOD


def test_a_revert_under_a_live_session(daemon: DaemonProcess) -> None:
    daemon.cli("create", "v", "--size", "64M")
    with connect(daemon) as initiator:
        initiator.settle()
        initiator.write(0, 0, b"old" + bytes(509))
        daemon.cli("snapshot", "v@s")
        initiator.write(0, 0, b"new" + bytes(509))
        with pytest.raises(Refused, match=r"v is in use by \S+ from 127.0.0.1; --force .* since v@s was taken is lost"):
            daemon.cli("revert", "v@s")
        daemon.cli("revert", "v@s", "--safety", "undo", "--force")
        assert initiator.settle() == [MEDIUM_CHANGED]
        assert initiator.read(0, 0, 1).data[:3] == b"old"
        daemon.cli("revert", "v@undo", "--force")
        initiator.settle()
        assert initiator.read(0, 0, 1).data[:3] == b"new"


def test_an_open_object_is_deleted_only_by_force_and_then_answers(daemon: DaemonProcess) -> None:
    daemon.cli("create", "a", "--size", "64M")
    daemon.cli("create", "b", "--size", "64M")
    with connect(daemon) as initiator:
        initiator.settle(0)
        initiator.inquiry(1)
        daemon.cli("delete", "b")                       # looked at, not used
        with pytest.raises(Refused, match="in use by"):
            daemon.cli("delete", "a")
        daemon.cli("delete", "a", "--force")
        assert initiator.read(0, 0, 8).asc in (NOT_SUPPORTED, LUNS_CHANGED)
        assert initiator.test_unit_ready(0).asc == NOT_SUPPORTED
    assert daemon.ls() == {}


def test_a_host_sees_its_own_luns_and_no_one_elses(start: Start) -> None:
    daemon = start(open_access=False)
    daemon.cli("create", "w", "--size", "64M")
    daemon.cli("create", "d", "--size", "32M")
    for host, iqn, volume in (("web", WEB, "w"), ("db", DB, "d")):
        daemon.cli("host", "create", host, iqn)
        daemon.cli("connect", volume, "--host", host, "--lun", "0")
    with connect(daemon, name=WEB) as web, connect(daemon, name=DB) as db:
        web.settle()
        db.settle()
        assert web.luns() == db.luns() == [0]
        assert (web.capacity(0)[0], db.capacity(0)[0]) == (131072, 65536)
        web.write(0, 0, b"web" + bytes(509))
        assert db.read(0, 0, 1).data == bytes(512)
        daemon.cli("connect", "d", "--host", "web", "--lun", "1")
        assert web.settle() == [LUNS_CHANGED]
        assert db.settle() == []
    with pytest.raises(InitiatorError):
        connect(daemon, name="iqn.2026-01.test:stranger")
    assert discover(daemon.portal, "iqn.2026-01.test:stranger") == {}
    assert list(discover(daemon.portal, WEB)) == [daemon.target]


def test_chap_lets_only_the_right_secret_in(start: Start, tmp_path: Path) -> None:
    daemon = start(open_access=False)
    daemon.cli("create", "w", "--size", "64M")
    (tmp_path / "in").write_text(SECRET)
    (tmp_path / "out").write_text(OTHER)
    daemon.cli("host", "create", "web", WEB, "--secret-file", str(tmp_path / "in"), "--chap-name", "user",
               "--mutual-secret-file", str(tmp_path / "out"), "--mutual-name", "us")
    daemon.cli("connect", "w", "--host", "web")
    for chap in (None, ("user", "wrong-wrong-wrong"), ("other", SECRET)):
        with pytest.raises(InitiatorError):
            connect(daemon, name=WEB, chap=chap)
    with connect(daemon, name=WEB, chap=("user", SECRET)) as initiator:
        assert initiator.luns() == [0]
    with connect(daemon, name=WEB, chap=("user", SECRET), mutual=("us", OTHER)) as initiator:
        assert initiator.luns() == [0]
    daemon.stop()
    logged = daemon.log.read_text()
    assert SECRET not in logged
    assert OTHER not in logged


def test_discovery_names_the_addresses_of_a_wildcard(start: Start) -> None:
    daemon = start("--force-open", listen=("0.0.0.0:0",))
    port = daemon.cli("pool", "info").split("portals 0.0.0.0:")[1].split()[0]
    found = discover(f"127.0.0.1:{port}")
    assert any(each.startswith(f"127.0.0.1:{port}") for each in found[daemon.target])


def test_a_second_login_of_the_same_initiator_port_replaces_the_first(daemon: DaemonProcess) -> None:
    daemon.cli("create", "v", "--size", "64M")
    first = connect(daemon)
    first.settle()
    with connect(daemon) as second:
        second.settle()
        assert second.write(0, 0, b"x" * 512).status == GOOD
        assert daemon.stats()["sessions"] == 1
    first.drop()


def test_stop_with_sessions_logged_in_is_clean(daemon: DaemonProcess) -> None:
    daemon.cli("create", "v", "--size", "64M")
    initiator = connect(daemon)
    initiator.settle()
    initiator.write(0, 0, b"x" * 512)
    assert daemon.stop() == 0
    initiator.drop()
    assert "clean" in daemon.check()


def test_a_lun_reset_is_told_to_everyone(daemon: DaemonProcess) -> None:
    daemon.cli("create", "v", "--size", "64M")
    with connect(daemon) as one, connect(daemon, name=WEB) as other:
        one.settle()
        other.settle()
        assert one.task_management(0, 5) == 0
        assert other.settle() == [0x2903]


def test_hostile_bytes_before_login_cost_only_their_connection(daemon: DaemonProcess) -> None:
    daemon.cli("create", "v", "--size", "64M")
    with connect(daemon) as initiator:
        initiator.settle()
        for garbage in (b"\xff" * 48, b"\x43" + b"\xff" * 47, b"GET / HTTP/1.0\r\n\r\n" * 10, bytes(48), b"\x01" * 4096):
            with socket.create_connection(("127.0.0.1", daemon.port), timeout=PATIENCE_SECONDS) as hostile:
                hostile.sendall(garbage)
                hostile.shutdown(socket.SHUT_WR)
                while hostile.recv(4096):
                    pass
        assert initiator.read(0, 0, 1).status == GOOD
    assert daemon.alive


def test_ports_and_pools_in_use_are_refused_in_one_line(daemon: DaemonProcess, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="open in another process"):
        daemon.cli("serve", str(daemon.pool), "--api", str(tmp_path / "b.sock"), "--open")
    with pytest.raises(Refused, match="open in another process"):
        daemon.check()
    daemon.cli("pool", "create", str(tmp_path / "other"), "--size", "1G")
    with pytest.raises(Refused, match="is in use by another program") as refused:
        daemon.cli("serve", str(tmp_path / "other"), "--api", str(tmp_path / "b.sock"), "--listen", daemon.portal, "--open")
    assert refused.value.message.count("\n") == 1
    with pytest.raises(Refused, match="not loopback"):
        daemon.cli("serve", str(tmp_path / "other"), "--api", str(tmp_path / "b.sock"), "--listen", "0.0.0.0:0", "--open")
    with pytest.raises(Refused, match=r"already exists|never overwritten"):
        daemon.cli("pool", "create", str(tmp_path / "other"), "--size", "1G")


def test_idle_sessions_of_a_host_that_asked_are_told_of_changes(start: Start) -> None:
    daemon = start(open_access=False)
    daemon.cli("host", "create", "web", WEB, "--events")
    daemon.cli("host", "create", "db", DB)
    for name in ("a", "b", "c"):
        daemon.cli("create", name, "--size", "64M")
    for host in ("web", "db"):
        daemon.cli("connect", "a", "--host", host, "--lun", "0")
        daemon.cli("connect", "b", "--host", host, "--lun", "1")
    told, other = (Connection(daemon.port, daemon.target, name=name) for name in (WEB, DB))

    def event() -> tuple[int, int, int, int]:
        message = told.receive(AsyncMessage)
        assert int.from_bytes(message.data[:2]) == len(message.data) - 2
        return message.async_event, message.lun[1], message.data[4] & 15, int.from_bytes(message.data[14:16])

    daemon.cli("resize", "b", "128M")
    assert event() == (0, 1, 6, CAPACITY_CHANGED)
    for host in ("web", "db"):
        daemon.cli("connect", "c", "--host", host)
    code, _, key, asc = event()                     # once, though every LUN has the unit attention
    assert (code, key, asc) == (0, 6, LUNS_CHANGED)
    told.send(NopOut(immediate=True, initiator_task_tag=5, cmd_sn=1))
    assert told.receive(NopIn).initiator_task_tag == 5
    daemon.cli("host", "change", "web", "--no-events")
    daemon.cli("host", "change", "db", "--events")
    daemon.cli("resize", "a", "128M")
    message = other.receive(AsyncMessage)
    assert int.from_bytes(message.data[14:16]) == CAPACITY_CHANGED
    told.send(NopOut(immediate=True, initiator_task_tag=6, cmd_sn=1))
    assert told.receive(NopIn).initiator_task_tag == 6
    for each in (told, other):
        each.close()


def test_a_rename_that_a_crash_cut_short_is_over_after_the_start(daemon: DaemonProcess) -> None:
    daemon.cli("create", "v", "--size", "64M")
    daemon.cli("snapshot", "v@a")
    daemon.cli("snapshot", "v@b")
    daemon.stop()
    pool, device = open_pool(daemon.pool, cache_bytes=16 << 20)
    pool.call("kv", changes={"renaming/1": b'["v","w"]'})
    pool.call("rename", object_id=2, name="w@a")
    pool.close()
    device.close()
    daemon.start()
    assert set(daemon.ls()) == {"w", "w@a", "w@b"}
    daemon.cli("revert", "w@a")
