"""A file system of the kernel's initiator on a mirrored disk, by both sides below multipath, while roles change."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.guest import Guest
from tests.support.kernel_initiator import QUICK, Node, Verifying, start_multipath, wait_for_ghosts, wait_for_paths
from tests.support.pair import Pair, Side, paused, rounds, until
from tests.support.places import pool_directory

FILE = "/mnt/v/file"
pytestmark = pytest.mark.skipif(os.environ.get("LUNETTE_MIRROR") != "all", reason="takes long: LUNETTE_MIRROR=all make mirrors")


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with pool_directory(tmp_path) as place:
        made = Pair(place).start()
        yield made
        made.close()


def change_sides(guest: Guest, one: Side, other: Side) -> None:
    """A planned failover, while the guest writes and verifies."""
    verifying = Verifying(guest, FILE)
    one.cli("demote", "v")
    other.cli("promote", "v")
    verifying.wait_for_a_round()
    wait_for_ghosts(guest, 1)
    verifying.finish()


def test_a_mounted_file_system_goes_on_by_the_other_side(pair: Pair, guest: Guest) -> None:
    a, b = pair.a, pair.b
    pair.mirrored("v", size="128M", options=("--standby",))
    until(lambda: b.ls()["v"].get("url"))
    for card, side in enumerate((a, b)):
        Node(guest, side.daemon, card).login(QUICK)
    disk = start_multipath(guest, 1)
    wait_for_ghosts(guest, 1)
    guest.run(f"mkfs.ext4 -q {disk} && mkdir -p /mnt/v && mount {disk} /mnt/v")
    change_sides(guest, a, b)
    guest.run("dd if=/dev/urandom of=/mnt/v/kept bs=1M count=4 2>&1 && sync && sha256sum /mnt/v/kept > /tmp/kept && sync")
    rounds(b, "v")                                  # A has all of it
    b.daemon.stop(signal.SIGKILL)
    a.cli("promote", "v", "--force")
    wait_for_paths(guest, 1)
    guest.run("echo 3 > /proc/sys/vm/drop_caches; sha256sum -c /tmp/kept && date > /mnt/v/later && sync")
    b.daemon.start()
    assert b.mirror("v")["role"] == "replica"
    wait_for_ghosts(guest, 1)
    change_sides(guest, a, b)
    guest.run(f"umount /mnt/v && e2fsck -n -f {disk} 2>&1 && mount {disk} /mnt/v && sha256sum -c /tmp/kept && umount /mnt/v")
    rounds(b, "v")
    paused(b, "v")
    newest = max(name for name in a.ls().keys() & b.ls().keys() if name.startswith("v@mirror-"))    # a standby is not read itself
    assert a.sha256(newest) == b.sha256(newest) == b.sha256("v")
