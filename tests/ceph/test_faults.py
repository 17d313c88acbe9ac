"""What dies below gateways, or between them and the cluster: no block of another's, no error at an initiator, a clean pool."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from core.ceph import parse_place
from core.image import create_image
from core.medium import image_opener
from core.pool.engine import EXIT_LOST
from target.volumes.owner import OwnedImage, gone
from tests.ceph.conftest import Images
from tests.support.cluster import Cluster
from tests.support.daemon import DaemonProcess
from tests.support.stamps import Lost, Session, stamped

MIB = 1 << 20
NAME = "iqn.2026-01.test:faults"
LEASE = ("--lease", "4")            # a machine that is busy holds its processes up for a second or two
OWN = b"own....." * 512
# The old gateway without its lease: it writes all over the image, and goes on whatever it is told.
WRITER = """
import sys
from core.image import ImageDevice
device = ImageDevice(sys.argv[1])
assert device.lock()
print("ready", flush=True)
refused = 0
while refused < 2000:
    for at in range(0, 16 << 20, 65536):
        try:
            device.write(at, b"foreign." * 512)
        except OSError:
            refused += 1
"""
long = pytest.mark.skipif(os.environ.get("LUNETTE_CEPH") != "long", reason="takes a minute: LUNETTE_CEPH=long make ceph")


@pytest.mark.parametrize("pause_s", [6, pytest.param(45, marks=long)])
def test_no_foreign_block_after_a_pause(cluster: Cluster, pause_s: int) -> None:
    """The fence alone, without a lease: what was on its way when the writer was stopped, and what it sends when it goes on."""
    path = cluster.place(f"fence{pause_s}")
    create_image(parse_place(path), 16 * MIB)
    writer = subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "ready\n"
    time.sleep(0.5)
    writer.send_signal(signal.SIGSTOP)
    device = OwnedImage(path, lease_s=4)
    blocked = set(device.lockers())
    device.own(takeover=True)
    for at in range(64 * 1024, 16 * MIB, 65536):            # the record is in the first
        device.write(at, OWN)
    time.sleep(pause_s)
    # an hour later: nobody that may live is forgotten, and no entry has run out
    me = image_opener("", 0.0)
    swept = device.client.sweep(lambda facts: gone({**facts, "blocked_s": time.time() - 3600}, me))
    assert not blocked & set(swept)                         # others' that are dead may be
    assert blocked <= device.client.blocked()
    until = {row["addr"]: row["until"] for row in cluster.ceph("osd", "blocklist", "ls")}
    assert all(int(until[each][:4]) > time.gmtime().tm_year + 8 for each in blocked)
    writer.send_signal(signal.SIGCONT)
    assert writer.wait(60) == 0                             # refused, each time
    foreign = [at for at in range(64 * 1024, 16 * MIB, 65536) if device.read(at, len(OWN)) != OWN]
    assert foreign == []
    device.close()


class Steady:
    """One initiator that writes and reads back all the while, and logs in again where the pool is."""

    def __init__(self, *gateways: DaemonProcess) -> None:
        self.gateways = list(gateways)
        self.errors: list[object] = []
        self.longest_s = 0.0
        self.done = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        session: Session | None = None
        began = time.monotonic()
        for number in itertools.count(1):
            lba = number % 2048 * 8
            while not self._stop.is_set():
                try:
                    session = session or self._login()
                    status = session.write(0, lba, stamped(1, lba, 8, number)).status
                    data = session.read(0, lba, 8).data
                    if status or data != stamped(1, lba, 8, number):
                        self.errors.append((number, status))
                    break
                except Lost:
                    session = None
            if self._stop.is_set():
                return
            self.longest_s = max(self.longest_s, time.monotonic() - began)
            began, self.done = time.monotonic(), number

    def _login(self) -> Session:
        for gateway in self.gateways:
            with suppress(Lost):
                return Session(gateway.portal, gateway.target, NAME)
        time.sleep(0.05)
        raise Lost("nobody serves")

    def goes_on(self, count: int = 20) -> None:
        """Return when so many more are done."""
        wanted, deadline = self.done + count, time.monotonic() + 90
        while self.done < wanted:
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive()
        assert self.errors == []


@pytest.fixture(scope="module")
def wide() -> Iterator[Cluster]:
    """Three monitors, three OSDs, each block on two of them; an OSD that says nothing is noticed after some seconds."""
    with tempfile.TemporaryDirectory(prefix="lntceph", dir="/dev/shm") as directory:
        one = Cluster(Path(directory), monitors=3, osds=3, osd_pool_default_size="2", osd_heartbeat_interval="1",
                      osd_heartbeat_grace="5", mon_osd_adjust_heartbeat_grace="false", mon_osd_min_down_reporters="1")
        yield one
        one.close()


@pytest.fixture
def steady(wide: Cluster, tmp_path: Path) -> Iterator[tuple[Images, DaemonProcess, Steady]]:
    """A gateway on the wide cluster, and an initiator; in the end everything was right."""
    images = Images(wide, tmp_path)
    daemon = images.gateway(*LEASE).start()
    daemon.cli("create", "v", "--size", "16M")
    load = Steady(daemon)
    try:
        load.goes_on()
        yield images, daemon, load
        load.stop()
        serving = load.gateways[-1]
        assert serving.stop() == 0
        assert "clean" in serving.check()
    finally:
        load._stop.set()
        images.close()


def test_one_monitor_of_three_is_killed(wide: Cluster, steady: tuple[Images, DaemonProcess, Steady]) -> None:
    """Everything goes on, and a takeover works, whichever it was (the first leads)."""
    images, daemon, load = steady
    for name in ("mon.a", "mon.b") if os.environ.get("LUNETTE_CEPH") == "long" else ("mon.a",):
        wide.signal(name, signal.SIGKILL)
        wide.processes[name].wait()
        load.goes_on()
        second = images.another(daemon, "--takeover").start()
        load.gateways.append(second)
        assert daemon.process is not None
        assert daemon.process.wait(60) == EXIT_LOST
        load.goes_on()
        daemon = second
        wide.start(name)
        wide.wait_for(lambda: len(wide.ceph("quorum_status")["quorum"]) == 3)


def test_an_osd_is_killed(wide: Cluster, steady: tuple[Images, DaemonProcess, Steady]) -> None:
    _, daemon, load = steady
    wide.signal("osd.0", signal.SIGKILL)
    wide.processes["osd.0"].wait()
    wide.wait_for(lambda: wide.ceph("osd", "stat")["num_up_osds"] == 2)
    load.goes_on()
    assert daemon.alive
    print("an OSD killed: longest command, s:", round(load.longest_s, 1))
    wide.start("osd.0")
    wide.wait_for(lambda: wide.ceph("osd", "stat")["num_up_osds"] == 3)
    load.goes_on()


@long
def test_an_osd_hangs(wide: Cluster, steady: tuple[Images, DaemonProcess, Steady]) -> None:
    """For longer than the lease, and than the cluster takes to notice: nobody ends, nothing is answered with an error."""
    _, daemon, load = steady
    wide.signal("osd.1", signal.SIGSTOP)
    try:
        wide.wait_for(lambda: wide.ceph("osd", "stat")["num_up_osds"] == 2)
        load.goes_on()
        assert daemon.alive
        print("an OSD hung: longest command, s:", round(load.longest_s, 1))
    finally:
        wide.signal("osd.1", signal.SIGCONT)
    wide.wait_for(lambda: wide.ceph("osd", "stat")["num_up_osds"] == 3)
    load.goes_on()


# -- the network -------------------------------------------------------------------------------------------------------
class Nets:
    """Two machines as network namespaces, each with a link to the cluster and one to initiators."""

    def __init__(self) -> None:
        number = os.getpid() % 50 + 200
        self.back, self.front = f"10.{number}", f"10.{number - 100}"
        self.names = {i: f"lnt{os.getpid()}-{i}" for i in (1, 2)}
        for i, name in self.names.items():
            self._ip("netns", "add", name)
            self._ip("-n", name, "link", "set", "lo", "up")
            for kind, net in (("b", self.back), ("f", self.front)):
                here, there = f"l{kind}{number}h{i}", f"{kind}{i}"
                self._ip("link", "add", here, "type", "veth", "peer", "name", there, "netns", name)
                self._ip("addr", "add", f"{net}.{i}.1/24", "dev", here)
                self._ip("link", "set", here, "up")
                self._ip("-n", name, "addr", "add", f"{net}.{i}.2/24", "dev", there)
                self._ip("-n", name, "link", "set", there, "up")
            self._route(i)

    def _route(self, i: int) -> None:
        self._ip("-n", self.names[i], "route", "replace", f"{self.back}.0.0/16", "via", f"{self.back}.{i}.1")

    def cut(self, i: int) -> None:
        """The machine's link to the cluster."""
        self._ip("-n", self.names[i], "link", "set", f"b{i}", "down")

    def mend(self, i: int) -> None:
        self._ip("-n", self.names[i], "link", "set", f"b{i}", "up")
        self._route(i)

    def put(self, daemon: DaemonProcess, i: int) -> DaemonProcess:
        """A gateway is to run on that machine, and listens for initiators there."""
        daemon.prefix = ["ip", "netns", "exec", self.names[i]]
        daemon.portal = f"{self.front}.{i}.2:{daemon.port}"
        daemon.listen = (daemon.portal,)
        daemon.options.append("--force-open")
        return daemon

    def close(self) -> None:
        for name in self.names.values():
            subprocess.run(["ip", "netns", "del", name], check=False)

    @staticmethod
    def _ip(*words: str) -> None:
        result = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
        if result.returncode:
            pytest.skip(f"no network namespaces to be had: {result.stderr.strip()}")


@pytest.fixture
def nets() -> Iterator[Nets]:
    if os.geteuid() or shutil.which("ip") is None:
        pytest.skip("making networks takes root and ip")
    made = Nets.__new__(Nets)
    try:
        made.__init__()  # type: ignore[misc]
        yield made
    finally:
        made.close()


@pytest.fixture
def apart(nets: Nets, tmp_path: Path) -> Iterator[Images]:
    """A cluster that two machines reach by a link each."""
    with tempfile.TemporaryDirectory(prefix="lntceph", dir="/dev/shm") as directory:
        cluster = Cluster(Path(directory), address=f"{nets.back}.1.1")
        images = Images(cluster, tmp_path)
        yield images
        images.close()
        cluster.close()


def test_a_gateway_is_cut_off_from_the_cluster_while_its_initiators_reach_it(nets: Nets, apart: Images) -> None:
    """It ends with its lease, and whoever takes over serves only then; no answer of either is old, none is an error."""
    first = nets.put(apart.gateway(*LEASE), 1).start()
    first.cli("create", "v", "--size", "16M")
    hole = Session(first.portal, first.target, NAME + ".hole")
    assert hole.read(0, 20000, 8).data == bytes(4096)
    load = Steady(first)
    load.goes_on()
    nets.cut(1)
    cut_s = asked_s = answered_s = time.monotonic()
    second = nets.put(apart.another(first, "--takeover"), 2)
    starting = threading.Thread(target=second.start)
    starting.start()
    with suppress(Lost):
        while True:                         # from memory, as long as it may
            sent_s = time.monotonic()
            assert hole.read(0, 20000, 8).status == 0
            asked_s, answered_s = sent_s, time.monotonic()
    starting.join(60)
    serving_s = time.monotonic()
    assert first.process is not None
    assert first.process.wait(60) == EXIT_LOST
    assert asked_s < serving_s              # of what was answered
    print("cut off: the last answer from memory after, s:", round(answered_s - cut_s, 1), "the other one serves after, s:",
          round(serving_s - cut_s, 1))
    load.gateways.append(second)
    load.goes_on()
    nets.mend(1)
    third = nets.put(apart.another(first), 1)
    with pytest.raises(AssertionError, match="in use: process"):
        third.start()
    third.process = None
    load.goes_on()
    load.stop()
    assert second.stop() == 0
    assert "clean" in second.check()
