"""The kernel's initiator under fio while its pool changes hands: same address, and two addresses below multipath. Minutes."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest

from tests.ceph.conftest import Images
from tests.ceph.test_gateways import standby
from tests.support.guest import Guest
from tests.support.guest_image import NoGuest
from tests.support.kernel_initiator import (
    QUICK,
    Node,
    Verifying,
    forget_everything,
    start_multipath,
    wait_for_ghosts,
    wait_for_paths,
)

pytestmark = pytest.mark.skipif(os.environ.get("LUNETTE_CEPH") != "long", reason="boots a machine: LUNETTE_CEPH=long make ceph")


@pytest.fixture(scope="module")
def guest() -> Iterator[Guest]:
    try:
        booted = Guest()
    except NoGuest as reason:
        pytest.skip(str(reason))
    with booted:
        yield booted


def test_killed_and_taken_over_at_the_same_address(images: Images, guest: Guest) -> None:
    first = images.gateway().start()
    first.cli("create", "v", "--size", "128M")
    node = Node(guest, first)
    node.login()
    verifying = Verifying(guest, node.disk(0))
    present = first
    for _ in range(3):
        time.sleep(1)
        present.stop(signal.SIGKILL)
        successor = images.another(first, "--takeover")
        successor.listen, successor.port, successor.portal = first.listen, first.port, first.portal
        present = successor.start()
        guest.wait_for("iscsiadm -m session -P 1 | grep 'Session State: LOGGED_IN'")
    verifying.finish()
    node.logout()
    present.stop()
    assert "clean" in present.check()


def test_stopped_and_taken_over_below_multipath(images: Images, guest: Guest) -> None:
    """fio meets no error; whoever had the pool goes on and says nothing: three times."""
    gateways = [images.gateway("--lease", "5")]
    gateways[0].start()
    gateways[0].cli("create", "v", "--size", "128M")
    Node(guest, gateways[0]).login(QUICK)
    disk = start_multipath(guest, 1)
    verifying = Verifying(guest, disk)
    longest = []
    for _ in range(3):
        following = images.another(gateways[0])
        waiting = standby(following)
        time.sleep(1)
        old = gateways[-1]
        assert old.process is not None
        began = time.monotonic()
        old.process.send_signal(signal.SIGSTOP)
        waiting.send_signal(signal.SIGUSR1)
        assert waiting.stdout is not None
        assert following.portal in waiting.stdout.readline()
        longest.append(time.monotonic() - began)
        Node(guest, following).login(QUICK)
        wait_for_paths(guest, 1)
        old.process.send_signal(signal.SIGCONT)
        assert old.process.wait(60) == 75
        wait_for_paths(guest, 1)
        gateways.append(following)
    time.sleep(5)
    verifying.finish()
    print("from the decision to serving, s:", [round(each, 1) for each in longest])
    gateways[-1].stop()
    assert "clean" in gateways[0].check()


def test_two_gateways_one_of_them_in_standby(images: Images, guest: Guest) -> None:
    """The path in standby is known to multipath all the while, and serves when the other one is stopped; there and back.

    Only registered paths may write: each was registered by itself, one of them in standby.
    """
    forget_everything(guest)
    pair = [images.gateway("--lease", "5")]
    pair.append(images.another(pair[0]))
    for number, each in enumerate(pair, 1):
        each.portal = f"127.0.0.1:{each.port},{number}"
        each.listen = (each.portal,)
    active, waiting = pair[0].start(), pair[1]
    active.cli("create", "v", "--size", "128M")
    process = standby(waiting)
    Node(guest, active).login(QUICK)
    guest.wait_for(f"iscsiadm -m node -T {waiting.target} -p {Node(guest, waiting).portal} -o new; "
                   f"iscsiadm -m node -T {waiting.target} -p {Node(guest, waiting).portal} -l")
    disk = start_multipath(guest, 1)
    wait_for_ghosts(guest, 1)
    reserve(guest)
    verifying = Verifying(guest, disk)
    for _ in range(2):
        time.sleep(2)
        assert active.process is not None
        began = time.monotonic()
        active.process.send_signal(signal.SIGSTOP)
        process.send_signal(signal.SIGUSR1)
        assert process.stdout is not None
        assert waiting.portal.partition(",")[0] in process.stdout.readline()
        print("from the decision to serving, s:", round(time.monotonic() - began, 1))
        wait_for_paths(guest, 1)
        verifying.wait_for_a_round()
        active.process.send_signal(signal.SIGCONT)
        assert active.process.wait(60) == 75
        active, waiting, process = waiting, active, standby(active)
        wait_for_ghosts(guest, 1)
    verifying.finish()
    print("longest I/O, s:", round(verifying.longest_s(), 1))
    assert "serving there" in active.cli("gateway", "move", "--then", str(waiting.api))
    wait_for_paths(guest, 1)
    wait_for_ghosts(guest, 1)
    assert guest.run("multipath -ll | grep -c policy").strip() == "2"         # a group each
    for path in paths(guest):
        guest.wait_for(f"[ $(sg_persist --in --read-keys {path} | grep -c 0xabc) = 2 ]")
        guest.wait_for(f"sg_persist --in --read-reservation {path} | grep -i 'registrants only'")
    for each in (waiting, active):
        each.stop()
    assert "clean" in active.check()


def paths(guest: Guest) -> list[str]:
    return [f"/dev/{name}" for name in guest.run("cd /sys/block; ls -d sd*").split()]


def reserve(guest: Guest) -> None:
    """Register both paths; whoever is registered may write, nobody else."""
    both = paths(guest)
    assert len(both) == 2
    for path in both:
        guest.wait_for(f"sg_persist --out --register-ignore --param-sark=abc {path}")
    guest.wait_for(f"sg_persist --out --reserve --param-rk=abc --prout-type=5 {both[0]}")
