"""Two machines that pacemaker runs a gateway on: namespaces for network, mounts, processes, host name; a switch between."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

PROGRAMS = ("pacemakerd", "corosync", "crm_mon", "cibadmin", "crm_attribute", "crm_resource", "unshare", "nsenter", "ip",
            "bridge")
READY_SECONDS = 120
RESOURCES = Path("/usr/lib/ocf/resource.d")

COROSYNC = """totem {{
  version: 2
  cluster_name: lunette
  transport: udpu
  crypto_cipher: none
  crypto_hash: none
  token: 2000
}}
nodelist {{
{nodes}}}
quorum {{
  provider: corosync_votequorum
  two_node: 1
  wait_for_all: 0
}}
logging {{
  to_logfile: yes
  logfile: /var/log/corosync/corosync.log
  to_syslog: no
}}
"""
NODE = "  node {{\n    ring0_addr: {address}\n    name: node{number}\n    nodeid: {number}\n  }}\n"

# What a machine does when it starts: directories of its own, corosync, pacemaker. $1: its own place, $2: host name, $3: a
# directory that is to be there (of the Ceph cluster, whose configuration names it).
START = r"""
set -e
place=$1; hostname "$2"
mount --make-rprivate /
mount -t tmpfs none /dev/shm
mount -t tmpfs none /run
for each in /var/lib/pacemaker /var/lib/corosync /var/log/pacemaker /var/log/corosync /etc/corosync /usr/lib/ocf/resource.d; do
    mount --bind "$place$each" "$each"
done
mkdir -p "$3" /run/crm /run/resource-agents /run/lock /run/pacemaker
for each in cib pengine cores blackbox; do mkdir -p /var/lib/pacemaker/$each; done
chown -R hacluster:haclient /run/crm /var/lib/pacemaker /var/log/pacemaker
corosync -f &
until corosync-cmapctl >/dev/null 2>&1; do sleep 0.2; done
PCMK_logfile=/var/log/pacemaker/pacemaker.log exec pacemakerd
"""


def missing() -> str:
    """What is not installed; empty: all that it takes."""
    return next((each for each in PROGRAMS if shutil.which(each) is None), "")


class Machine:
    """One of the two, started when constructed."""

    def __init__(self, place: Path, number: int, space: str, ceph_directory: Path) -> None:
        self.name = f"node{number}"
        self._out = (place / "out").open("ab")
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", space, "unshare", "--mount", "--uts", "--ipc", "--pid", "--fork", "--mount-proc", "sh", "-c",
             START, "sh", str(place), self.name, str(ceph_directory)], stdout=self._out, stderr=self._out,
            stdin=subprocess.DEVNULL, start_new_session=True)

    def _first(self) -> str:
        """The process whose end is that of all others in the machine."""
        pid = self.process.pid
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0]

    def run(self, *words: str, stdin: str = "") -> str:
        """A command on the machine; its output, whatever its status."""
        return subprocess.run(["nsenter", "-t", self._first(), "-a", *words], input=stdin, capture_output=True, text=True,
                              timeout=60, check=False).stdout

    def kill(self) -> None:
        """End all that runs on it."""
        if self.process.poll() is None:
            subprocess.run(["kill", "-9", self._first()], check=False)
            self.process.wait()
        self._out.close()


class Site:
    """The two, the switch between them, and what they share: an address on it for the Ceph cluster, and one that moves."""

    def __init__(self, place: Path) -> None:
        """OSError: no networks can be made here."""
        number = os.getpid() % 200 + 20
        self.place = place
        self.network = f"10.{number}.77"
        self.address, self.moving = f"{self.network}.254", f"{self.network}.9"
        self._switch = f"lnts{number}"
        self._spaces = {i: f"lntpc{os.getpid()}-{i}" for i in (1, 2)}
        self._links = {i: f"lntv{number}-{i}" for i in (1, 2)}
        self.machines: dict[int, Machine] = {}
        self._ip("link", "add", self._switch, "type", "bridge")
        self._ip("addr", "add", f"{self.address}/24", "dev", self._switch)
        self._ip("link", "set", self._switch, "up")
        for i, space in self._spaces.items():
            self._ip("netns", "add", space)
            self._ip("link", "add", self._links[i], "type", "veth", "peer", "name", "eth0", "netns", space)
            self._ip("link", "set", self._links[i], "master", self._switch, "up")
            self._ip("-n", space, "addr", "add", f"{self.network}.{i}/24", "dev", "eth0")
            for link in ("eth0", "lo"):
                self._ip("-n", space, "link", "set", link, "up")

    @staticmethod
    def _ip(*words: str) -> None:
        result = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
        if result.returncode:
            raise OSError(result.stderr.strip())

    def start(self, number: int, agent: Path, ceph_directory: Path) -> Machine:
        """Switch a machine on."""
        place = self.place / f"machine{number}"
        for each in ("var/lib/pacemaker", "var/lib/corosync", "var/log/pacemaker", "var/log/corosync", "etc/corosync"):
            (place / each).mkdir(parents=True, exist_ok=True)
        resources = place / str(RESOURCES).lstrip("/")
        if not resources.exists():
            shutil.copytree(RESOURCES, resources, symlinks=True)
        (resources / "lunette").mkdir(exist_ok=True)
        shutil.copy(agent, resources / "lunette" / agent.name)
        nodes = "".join(NODE.format(address=f"{self.network}.{i}", number=i) for i in self._spaces)
        (place / "etc/corosync/corosync.conf").write_text(COROSYNC.format(nodes=nodes))
        self.machines[number] = Machine(place, number, self._spaces[number], ceph_directory)
        return self.machines[number]

    def kill(self, number: int) -> None:
        """As if a machine's power were off: its network does not answer either."""
        self._ip("link", "set", self._links[number], "down")
        self.machines[number].kill()

    def split(self, apart: bool) -> None:
        """Whether the machines reach each other; both reach the Ceph cluster and initiators all the while."""
        for link in self._links.values():
            subprocess.run(["bridge", "link", "set", "dev", link, "isolated", "on" if apart else "off"], check=True)

    def configure(self, xml: str) -> None:
        """Give pacemaker its configuration, as soon as it takes one."""
        self.wait_for(lambda: "Online: [ node1 node2 ]" in self.machines[1].run("crm_mon", "-1"))
        assert self.machines[1].run("cibadmin", "--replace", "--scope", "configuration", "--xml-pipe", stdin=xml) == ""

    def runs_on(self, resource: str, by: int) -> str:
        """The machine that has a resource, as one of them thinks; empty: none."""
        found = self.machines[by].run("crm_resource", "--resource", resource, "--locate", "--quiet").split()
        return found[0] if len(found) == 1 else ""

    @staticmethod
    def wait_for(condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.3)

    def close(self) -> None:
        for machine in self.machines.values():
            machine.kill()
        for space in self._spaces.values():
            subprocess.run(["ip", "netns", "del", space], capture_output=True, check=False)
        subprocess.run(["ip", "link", "del", self._switch], capture_output=True, check=False)
