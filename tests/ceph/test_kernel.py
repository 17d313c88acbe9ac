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
from tests.support.kernel_initiator import Node, Verifying, start_multipath, wait_for_paths

pytestmark = pytest.mark.skipif(os.environ.get("LUNETTE_CEPH") != "long", reason="boots a machine: LUNETTE_CEPH=long make ceph")
QUICK = {"node.session.timeo.replacement_timeout": "1", "node.conn[0].timeo.noop_out_interval": "1",
         "node.conn[0].timeo.noop_out_timeout": "1"}


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
        assert old.process.wait(20) == 75
        wait_for_paths(guest, 1)
        gateways.append(following)
    time.sleep(5)
    verifying.finish()
    print("from the decision to serving, s:", [round(each, 1) for each in longest])
    gateways[-1].stop()
    assert "clean" in gateways[0].check()
