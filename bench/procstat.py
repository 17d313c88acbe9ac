"""What the kernel says of a process and of the machine: CPU time, state, memory, listening sockets (proc(5))."""

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
STATE_LISTEN = "0A"
CPUCLOCK_SCHED = 2


def cpu_seconds(pid: int) -> float:
    """CPU time of all threads of `pid`, ended ones too; io_uring's workers and pollers are threads of it. In seconds.

    From the process's CPU clock (nanoseconds, clock_getcpuclockid(3)); /proc/PID/stat counts the same in ticks.
    """
    try:
        return time.clock_gettime(~pid << 3 | CPUCLOCK_SCHED)
    except OSError:
        return ticks_seconds(pid)


def ticks_seconds(pid: int) -> float:
    """The same from /proc/PID/stat, to a tick of (mostly) 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def python_seconds(pid: int) -> float:
    """CPU time of a daemon's main thread, where its Python runs."""
    fields = Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()
    if fields[0] != "0":
        return int(fields[0]) / 1e9
    ticks = Path(f"/proc/{pid}/task/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(ticks[11]) + int(ticks[12])) / TICKS_PER_S


def state(pid: int) -> str:
    """A letter: R and S run and sleep, T is held by SIGSTOP, Z has ended."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]


def rss_bytes(pid: int) -> int:
    """Resident memory of `pid` that is its own: anonymous pages, not the mapped pool file."""
    found = re.search(r"^RssAnon:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.M)
    return int(found[1]) * 1024 if found else 0


@dataclass(frozen=True)
class MachineTime:
    """Seconds the whole machine spent busy and stolen, summed over its CPUs."""

    busy: float
    steal: float

    @classmethod
    def now(cls) -> "MachineTime":
        user, nice, system, _idle, _iowait, irq, softirq, steal = map(
            int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9])
        return cls((user + nice + system + irq + softirq) / TICKS_PER_S, steal / TICKS_PER_S)


def listening_ports(pid: int) -> set[tuple[str, int]]:
    """The IPv4 (address, port) pairs that `pid` listens on; IPv6 ones appear under the address `::`."""
    inodes = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found = re.match(r"socket:\[(\d+)\]", os.readlink(entry))
        except FileNotFoundError:  # closed while we looked
            continue
        if found:
            inodes.add(found[1])
    ports = set()
    for family in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{family}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] != STATE_LISTEN or fields[9] not in inodes:
                continue
            address, port = fields[1].split(":")
            octets = bytes.fromhex(address)[::-1] if family == "tcp" else b""
            ports.add((".".join(map(str, octets)) if octets else "::", int(port, 16)))
    return ports
