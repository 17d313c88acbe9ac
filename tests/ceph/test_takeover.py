"""A pool that changes hands on a real cluster: who is fenced says nothing more, and nothing is lost (docs/ceph.md)."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
import time

import pytest

from core.image import ImageDevice
from core.ownership import State
from core.pool.engine import EXIT_LOST
from target.iscsi.pdu import DataIn, NopOut, ScsiCommand, ScsiResponse, decode
from target.volumes.owner import OwnedImage, gone
from tests.ceph.conftest import Images
from tests.interop.test_reservations import CONFLICT, REGISTER, RESERVE, WRITE_EXCLUSIVE, connect, held_type, keys, reserve_out
from tests.support import libiscsi
from tests.support.cluster import Cluster
from tests.support.daemon import DaemonProcess, Refused
from tests.support.libiscsi import GOOD
from tests.support.session import Connection, read10
from tests.support.stamps import Lost, Session, stamped
from tests.support.waiting import until

NAME = "iqn.2026-01.test:one"
LEASE = ("--lease", "4")            # a machine that is busy holds its processes up for a second or two


def ended(daemon: DaemonProcess) -> int:
    assert daemon.process is not None
    return daemon.process.wait(60)


def answered(connection: Connection) -> None:
    """Wait for a command's last PDU: a SCSI Response, or Data-In with status."""
    while True:
        while (raw := connection.reader.next_pdu()) is None:
            data = connection.sock.recv(65536)
            assert data
            connection.reader.feed(data)
        pdu = decode(raw)
        if isinstance(pdu, ScsiResponse) or (isinstance(pdu, DataIn) and pdu.has_status):
            return


def test_a_gateway_that_was_stopped_says_nothing_more(images: Images) -> None:
    """What it is asked meanwhile it could answer from memory: a hole, a page it has, TEST UNIT READY."""
    first = images.gateway(*LEASE).start()
    first.cli("create", "v", "--size", "16M")
    connection = Connection(first.port, first.target)
    other = Connection(first.port, first.target, isid=b"\x80MCS\0\2")
    for tag in (1, 2):                      # the first answer is a unit attention
        connection.send(read10(64, 8, tag, tag))
        answered(connection)
    assert first.process is not None
    first.process.send_signal(signal.SIGSTOP)
    second = images.another(first, "--takeover").start()
    connection.send(read10(64, 8, 3, 3))
    connection.send(ScsiCommand(initiator_task_tag=4, cmd_sn=4, cdb=bytes(16)))
    other.send(NopOut(initiator_task_tag=5, immediate=True, cmd_sn=1))
    first.process.send_signal(signal.SIGCONT)
    assert ended(first) == EXIT_LOST
    for each in (connection, other):
        with pytest.raises((EOFError, ConnectionError)):
            each.receive(ScsiResponse)
    assert "without another answer" in first.log.read_text()
    assert second.ls()["v"]["size_bytes"] == 16 << 20
    second.stop()
    assert "clean" in second.check()


def test_a_gateway_that_lives_is_left_alone_unless_somebody_is_told_to_take_its_pool(images: Images) -> None:
    first = images.gateway(*LEASE).start()
    first.cli("create", "v", "--size", "16M")
    second = images.another(first)
    with pytest.raises(Refused, match="in use: process"):
        second.cli("serve", str(second.pool), "--api", str(second.api), "--listen", second.portal, *second.options)
    session = Session(first.portal, first.target, NAME)
    statuses: list[int] = []

    def load() -> None:
        with contextlib.suppress(Lost):
            for number in range(1, 1 << 20):
                statuses.append(session.write(0, number % 4096 * 8, stamped(1, number % 4096 * 8, 8, number)).status)

    writer = threading.Thread(target=load)
    writer.start()
    until(lambda: len(statuses) >= 20)
    third = images.another(first, "--takeover").start()
    writer.join(60)
    assert not writer.is_alive()
    assert set(statuses) == {0}             # a lost path, and no error of the disk
    assert ended(first) == EXIT_LOST
    again = Session(third.portal, third.target, NAME)
    assert again.read(0, len(statuses) % 4096 * 8, 8).data == stamped(1, len(statuses) % 4096 * 8, 8, len(statuses))
    third.stop()
    assert "clean" in third.check()


@pytest.mark.skipif(libiscsi.lib is None, reason="libiscsi is not installed (make clients)")
def test_serials_and_all_reservations_move_along(images: Images) -> None:
    first = images.gateway(*LEASE).start()
    first.cli("create", "v", "--size", "16M")
    one, two = connect(first, "a"), connect(first, "b")
    assert reserve_out(one, REGISTER, new=0xA).status == GOOD               # without APTPL
    assert reserve_out(two, REGISTER, new=0xB).status == GOOD
    assert reserve_out(one, RESERVE, key=0xA, kind=WRITE_EXCLUSIVE).status == GOOD
    pages = [one.inquiry(0, page) for page in (0x80, 0x83)]
    first.stop(signal.SIGKILL)
    one.drop()
    two.drop()
    second = images.another(first, "--takeover").start()
    one, two = (libiscsi.Initiator(second.portal, second.target, f"iqn.2026-01.test:{name}") for name in "ab")
    assert one.settle() == [0x2900]
    two.settle()
    assert keys(one) == [0xA, 0xB]
    assert held_type(one) == WRITE_EXCLUSIVE
    assert two.write(0, 0, b"b" * 512).status == CONFLICT
    assert one.write(0, 0, b"a" * 512).status == GOOD
    assert pages == [one.inquiry(0, page) for page in (0x80, 0x83)]
    one.drop()
    two.drop()


def test_both_at_once(images: Images) -> None:
    """Whoever is granted the pool at the same time as another: in the end one serves, the other has said why not; no more."""
    first = images.gateway("--lease", "5", "--takeover", "--same-identity").start()
    first.cli("create", "v", "--size", "16M")
    first.stop()
    pair = [first, images.another(first)]
    for number in range(int(os.environ.get("LUNETTE_STORMS", "3"))):
        starts = [threading.Thread(target=begun, args=(each,)) for each in pair]
        for start in starts:
            start.start()
        for start in starts:
            start.join()
        until(lambda: sum(each.alive for each in pair) < 2, "both serve")          # who was fenced says nothing, and ends
        said = [each.log.read_text()[-2000:] for each in pair]
        (serving,) = [each for each in pair if each.alive] or pytest.fail("\n\n".join(["nobody serves", *said]))
        session = Session(serving.portal, serving.target, NAME)
        for before in range(number):
            assert session.read(0, before * 8, 8).data == stamped(1, before * 8, 8, before + 1)
        assert session.write(0, number * 8, stamped(1, number * 8, 8, number + 1), fua=True).status == 0
        for each in pair:
            assert each.process is not None
            if each is not serving:
                assert each.process.returncode == EXIT_LOST or re.search("is in use|blocked this client", each.log.read_text())
            each.close_process()
            each.log.unlink()
    assert "clean" in first.check()


def begun(daemon: DaemonProcess) -> None:
    """Start it; it may end before it serves."""
    with contextlib.suppress(AssertionError):
        daemon.start()


def test_an_osd_or_the_monitor_alone_may_be_silent_for_longer_than_the_lease(cluster: Cluster, images: Images) -> None:
    daemon = images.gateway(*LEASE).start()
    daemon.cli("create", "v", "--size", "16M")
    for name in ("osd.0", "mon.a"):
        cluster.signal(name, signal.SIGSTOP)
        try:
            time.sleep(5)
            assert daemon.alive
        finally:
            cluster.signal(name, signal.SIGCONT)
        assert Session(daemon.portal, daemon.target, NAME).read(0, 0, 8).status == 0


def test_who_reaches_nothing_of_the_cluster_ends_with_its_lease(cluster: Cluster, images: Images) -> None:
    daemon = images.gateway(*LEASE).start()
    daemon.cli("create", "v", "--size", "16M")
    session = Session(daemon.portal, daemon.target, NAME)
    assert session.read(0, 0, 8).status == 0
    for name in ("osd.0", "mon.a"):
        cluster.signal(name, signal.SIGSTOP)
    try:
        assert ended(daemon) == EXIT_LOST
        with pytest.raises(Lost):
            session.read(0, 0, 8)
    finally:
        for name in ("osd.0", "mon.a"):
            cluster.signal(name, signal.SIGCONT)
    daemon.start()
    daemon.stop()
    assert "clean" in daemon.check()


def test_a_full_cluster_is_no_failed_pool(cluster: Cluster, images: Images) -> None:
    daemon = images.gateway(*LEASE).start()
    daemon.cli("create", "v", "--size", "64M")
    session = Session(daemon.portal, daemon.target, NAME)
    assert session.write(0, 0, stamped(1, 0, 128, 1)).status == 0
    assert session.flush(0).status == 0
    cluster.fill(True)
    try:
        assert session.write(0, 0, stamped(1, 0, 128, 2)).status == 0           # in place
        replies = [session.write(0, 1024 * each, stamped(1, 1024 * each, 128, 3)) for each in range(1, 120)]
        assert {reply.key for reply in replies if reply.status} == {(7, 0x2707)}
        assert session.read(0, 0, 128).data == stamped(1, 0, 128, 2)
    finally:
        cluster.fill(False)
    cluster.wait_for(lambda: session.write(0, 110000, stamped(1, 110000, 128, 4)).status == 0)
    assert session.flush(0).status == 0
    assert '"failed": 0' in daemon.cli("pool", "info", "--json")
    daemon.stop()
    assert "clean" in daemon.check()


def test_blocked_clients_are_swept_when_their_process_is_known_dead(cluster: Cluster, images: Images,
                                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    first = images.gateway(*LEASE).start()
    record = ImageDevice(first.pool)
    address = record.lockers()[0]
    record.close()
    first.stop(signal.SIGKILL)
    second = images.another(first).start()
    assert address in cluster.blocked()
    second.stop()
    device = OwnedImage(first.pool, lease_s=30)
    monkeypatch.setattr("target.volumes.owner.SWEEP_SECONDS", 0)
    held, sweep = threading.Event(), device.client.sweep
    monkeypatch.setattr(device.client, "sweep", lambda gone: held.wait() and sweep(gone))
    device.own()
    assert device.owner is not None
    assert device.owner.state is State.OWNED
    device.announce(["127.0.0.1:1"])        # it serves, however long that takes
    assert address in cluster.blocked()
    held.set()
    cluster.wait_for(lambda: address not in cluster.blocked())
    device.close()


def test_who_cannot_be_seen_is_not_swept() -> None:
    from core.medium import image_opener

    me = image_opener("1.2.3.4:0/5", 2)
    facts = {"boot": me.boot.hex(), "pid_namespace": me.pid_namespace, "pid": 1 << 30, "started": 1, "blocked_s": 1}
    assert gone(facts, me)
    for change in ({"boot": "00" * 16}, {"pid_namespace": 1}, {"blocked_s": time.time()}, {"pid": me.pid, "started": me.started}):
        assert not gone({**facts, **change}, me)
