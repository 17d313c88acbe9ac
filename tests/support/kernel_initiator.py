"""The kernel's initiator in the guest, as an administrator drives it: iscsiadm, disks by path, file systems, multipath."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from tests.support.daemon import DaemonProcess
from tests.support.guest import HOSTS, Guest

NAME = "iqn.2026-11.test.guest:kernel"      # as in guest_init.sh
MULTIPATH = """defaults {
  user_friendly_names no
  find_multipaths no
  polling_interval 1
  max_polling_interval 1
  no_path_retry 60
  path_grouping_policy group_by_prio
  fast_io_fail_tmo 1
}
"""
QUICK = {"node.session.timeo.replacement_timeout": "1", "node.conn[0].timeo.noop_out_interval": "1",
         "node.conn[0].timeo.noop_out_timeout": "1"}        # for login: a path that is dead is found to be so at once
UNPINGED = {"node.conn[0].timeo.noop_out_interval": "0", "node.conn[0].timeo.noop_out_timeout": "0"}   # a busy core loses no path
VERIFY = ("fio --name=v --filename={disk} --direct=1 --ioengine=libaio --iodepth=8 --rw=randwrite --bs=4k-16k --size=4m "
          "--rate=4m --verify=crc32c --verify_fatal=1 --verify_backlog=256 --output-format=json")


class Verifying:
    """fio in the guest, writing and verifying in rounds of some seconds until it is told to finish."""

    def __init__(self, guest: Guest, disk: str) -> None:
        self._guest = guest
        self._running = guest.start(f"rm -f /tmp/enough /tmp/all /tmp/failed; echo > /tmp/rounds; until [ -e /tmp/enough ]; do "
                                    f"{VERIFY.format(disk=disk)} --randseed=$(wc -l < /tmp/rounds) > /tmp/fio 2>&1 || "
                                    f"{{ cat /tmp/fio; touch /tmp/failed; exit 1; }}; cat /tmp/fio >> /tmp/all; "
                                    f"echo >> /tmp/rounds; done")
        guest.wait_for("pidof fio")

    def wait_for_a_round(self) -> None:
        """Until one that has begun after now is over."""
        rounds = int(self._guest.run("wc -l < /tmp/rounds"))
        self._guest.wait_for(f"multipath -ll; dmesg | tail -n 40; cat /tmp/fio | tail -n 5; "
                             f"[ -e /tmp/failed ] || [ $(wc -l < /tmp/rounds) -ge {rounds + 2} ]", timeout=180)
        if self._guest.run("if [ -e /tmp/failed ]; then echo failed; fi").strip():
            self._running.wait()                # which says what fio has met

    def finish(self) -> None:
        """Until the present round is over; no round may have failed."""
        self._guest.run("touch /tmp/enough")
        self._running.wait()

    def longest_s(self) -> float:
        """The longest read or write of all rounds, as fio saw it; after `finish`."""
        text, decoder, longest_ns = self._guest.run("cat /tmp/all"), json.JSONDecoder(), 0
        at = text.find("{")
        while at >= 0:
            round_, length = decoder.raw_decode(text[at:])
            longest_ns = max(longest_ns, *(job[way]["clat_ns"]["max"] for job in round_["jobs"] for way in ("read", "write")))
            at = text.find("{", at + length)
        return longest_ns / 1e9


@dataclass(frozen=True, slots=True)
class Node:
    """A daemon's target as the guest reaches it by one of its network cards."""

    guest: Guest
    daemon: DaemonProcess
    card: int = 0

    @property
    def portal(self) -> str:
        return f"{HOSTS[self.card]}:{self.daemon.port}"

    def login(self, settings: Mapping[str, str] | None = None, *, chap: tuple[str, str] | None = None,
              mutual: tuple[str, str] | None = None) -> None:
        """Log in by a node record of its own. The settings are iscsiadm's."""
        values = dict(settings or {})
        if chap:
            values |= {"node.session.auth.authmethod": "CHAP", "node.session.auth.username": chap[0],
                       "node.session.auth.password": chap[1]}
        if mutual:
            values |= {"node.session.auth.username_in": mutual[0], "node.session.auth.password_in": mutual[1]}
        self._admin("-o", "new")
        for key, value in values.items():
            self._admin("-o", "update", "-n", key, "-v", value)
        self._admin("-l")

    def logout(self) -> None:
        self._admin("-u")

    def rescan(self) -> None:
        """Look for new LUNs and new sizes."""
        self._admin("-R")

    def disk(self, lun: int) -> str:
        """The device of a LUN, once it is there. udev writes numbers above 255 as SAM's eight bytes."""
        number = lun if lun < 256 else f"0x{0x4000 + lun:04x}{0:012x}"
        link = f"/dev/disk/by-path/ip-{self.portal}-iscsi-{self.daemon.target}-lun-{number}"
        return self.guest.wait_for(f"readlink -f {link} | grep ^/dev/sd").strip()

    def _admin(self, *args: str) -> str:
        return self.guest.run(shlex.join(["iscsiadm", "-m", "node", "-T", self.daemon.target, "-p", self.portal, *args]))


def forget_everything(guest: Guest) -> None:
    """Leave the guest as it was after its boot."""
    guest.plug(0)
    guest.plug(1)
    guest.run("for m in $(grep ' /mnt/' /proc/mounts | cut -d' ' -f2); do umount -l $m; done; rmdir /mnt/*; "
              "killall -q -9 multipathd; for m in /dev/mapper/3*; do dmsetup remove --force --noudevsync $m; done; "
              "iscsiadm -m node -u; iscsiadm -m node -o delete; true")


def start_multipath(guest: Guest, paths: int) -> str:
    """Start multipathd; the device of the only disk, once it has that many paths."""
    guest.run(f"mkdir -p /etc/multipath; cat > /etc/multipath.conf <<'END'\n{MULTIPATH}END\nmultipathd")
    wait_for_paths(guest, paths)
    return guest.wait_for("ls -d /dev/mapper/3* && [ -b $(ls -d /dev/mapper/3*) ]").strip()       # udev may be behind


def wait_for_paths(guest: Guest, active: int) -> None:
    guest.wait_for(f"multipath -ll; [ $(multipath -ll | grep -cE 'active ready +running') = {active} ]")


def wait_for_ghosts(guest: Guest, count: int) -> None:
    """Until so many paths are in standby."""
    guest.wait_for(f"multipath -ll; [ $(multipath -ll | grep -cE 'active ghost +running') = {count} ]")
