"""Peers Lunette is compared with: tgt and istgt of Debian, and any target that already runs somewhere."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

from bench import initiator
from bench.fio import CACHE
from bench.machine import first_line
from bench.targets import Target, TargetError, make_file


def unpack(package: str, program: str, libraries: tuple[str, ...]) -> str:
    """`program` on PATH, else unpacked (not installed, so that no service starts) from Debian's package into the cache."""
    unpacked = CACHE / package / "usr/sbin" / program
    for candidate in (shutil.which(program), f"/usr/sbin/{program}", str(unpacked)):
        if candidate and os.access(candidate, os.X_OK):
            return candidate
    CACHE.mkdir(parents=True, exist_ok=True)
    for command in (["apt-get", "download", "-qq", package],
                    ["sh", "-c", f"dpkg -x {package}_*.deb {package} && rm {package}_*.deb"]):
        try:
            failed = subprocess.run(command, cwd=CACHE, capture_output=True, check=False).returncode
        except FileNotFoundError:
            failed = 1
        if failed:
            raise TargetError(f"no {program}: apt-get install {package}")
    if os.geteuid() == 0 and libraries:
        subprocess.run(["apt-get", "install", "-qq", "-y", "--no-install-recommends", *libraries],
                       capture_output=True, check=False)
    return str(unpacked)


class Tgt(Target):
    """tgtd of Debian's package, file-backed LUNs with its default backing store (rdwr) and 16 I/O threads."""

    kind = "tgt"
    stop_signal = signal.SIGKILL   # it ignores SIGTERM while it has targets; its files are thrown away
    iqn = "iqn.2026-11.dev.lunette.bench:tgt"

    def __init__(self, label: str, directory: Path, *, direct: bool = False, digests: bool = False) -> None:
        super().__init__(label, directory)
        self.digests = digests      # tgt refuses digests unless told to want them
        self.control = str(1000 + self.port % 30000)
        self.direct = direct
        self.luns = 0

    def start(self) -> None:
        os.makedirs("/var/run/tgtd", exist_ok=True)
        self.spawn([find_tgtd(), "-f", "-C", self.control, "--iscsi", f"portal=127.0.0.1:{self.port}"])
        self.admin("--mode", "target", "--op", "new", "--tid", "1", "--targetname", self.iqn)
        self.admin("--mode", "target", "--op", "bind", "--tid", "1", "--initiator-address", "ALL")
        if self.digests:
            for key in ("HeaderDigest", "DataDigest"):
                self.admin("--mode", "target", "--op", "update", "--tid", "1", "--name", key, "--value", "CRC32C,None")

    def admin(self, *arguments: str) -> None:
        command = [str(Path(find_tgtd()).with_name("tgtadm")), "-C", self.control, "--lld", "iscsi", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise TargetError(f"tgtadm {' '.join(arguments[:4])}: {done.stderr.strip()}")

    def add_lun(self, name: str, size_mib: int, fill: bool = True) -> str:
        path = self.backing(name, size_mib, fill)
        self.luns += 1
        flags = ["--bsoflags", "direct"] if self.direct else []
        self.admin("--mode", "logicalunit", "--op", "new", "--tid", "1", "--lun", str(self.luns),
                   "--backing-store", str(path), *flags)
        return f"iscsi://127.0.0.1:{self.port}/{self.iqn}/{self.luns}"

    def discard(self) -> None:
        super().discard()
        for leftover in Path("/var/run/tgtd").glob(f"socket.{self.control}*"):
            leftover.unlink(missing_ok=True)

    def version(self) -> str:
        return f"tgt {first_line(find_tgtd(), '--version')}"


def find_tgtd() -> str:
    """tgtd, which must run."""
    found = unpack("tgt", "tgtd", ("libibverbs1", "librdmacm1", "libaio1"))
    if not first_line(found, "--version"):
        raise TargetError("tgtd does not run: apt-get install tgt")
    return found


ISTGT_CONF = """[Global]
  NodeBase "iqn.2026-11.dev.lunette.bench"
  PidFile {directory}/istgt.pid
  AuthFile {directory}/auth.conf
  MediaDirectory {directory}
  LogFacility local7
  Timeout 30
  NopInInterval 20
  DiscoveryAuthMethod None
  MaxSessions 64
  MaxConnections 4
  MaxR2T 32
  MaxOutstandingR2T 16
  DefaultTime2Wait 2
  DefaultTime2Retain 60
  FirstBurstLength 262144
  MaxBurstLength 1048576
  MaxRecvDataSegmentLength 262144
  InitialR2T Yes
  ImmediateData Yes
  DataPDUInOrder Yes
  DataSequenceInOrder Yes
  ErrorRecoveryLevel 0
[UnitControl]
[PortalGroup1]
  Portal P1 127.0.0.1:{port}
[InitiatorGroup1]
  InitiatorName "ALL"
  Netmask 127.0.0.1
[LogicalUnit1]
  TargetName istgt
  Mapping PortalGroup1 InitiatorGroup1
  AuthMethod None
  UseDigest Auto
  UnitType Disk
  QueueDepth 64
  BlockLength 512
"""


class Istgt(Target):
    """istgt of Debian's package with file-backed LUNs; its LUNs stand in its configuration, so a new one restarts it."""

    kind = "istgt"
    stop_signal = signal.SIGKILL    # as tgt: nothing of it is kept

    def __init__(self, label: str, directory: Path) -> None:
        super().__init__(label, directory)
        self.luns: list[str] = []

    def start(self) -> None:
        """Find it; it runs once it has a LUN."""
        find_istgt()

    def add_lun(self, name: str, size_mib: int, fill: bool = True) -> str:
        path = self.directory / f"{name}.img"
        make_file(path, size_mib, fill)
        self.luns.append(f"  LUN{len(self.luns)} Storage {path} {size_mib}MB\n")
        self.stop()
        (self.directory / "auth.conf").write_text("")
        (self.directory / "auth.conf").chmod(0o600)
        configuration = self.directory / "istgt.conf"
        configuration.write_text(ISTGT_CONF.format(directory=self.directory, port=self.port) + "".join(self.luns))
        self.spawn([find_istgt(), "-D", "-c", str(configuration)])
        return f"iscsi://127.0.0.1:{self.port}/iqn.2026-11.dev.lunette.bench:istgt/{len(self.luns) - 1}"

    def version(self) -> str:
        return first_line(find_istgt(), "-V")


def find_istgt() -> str:
    """istgt, which must run."""
    found = unpack("istgt", "istgt", ("libssl3",))
    if "istgt" not in first_line(found, "-V"):
        raise TargetError("istgt does not run: apt-get install istgt")
    return found


class Running(Target):
    """A target someone started, SPDK's iscsi_tgt for instance: one LUN by its URL, CPU time by its process id.

    Its storage is what it is: only suites with one LUN of at most its size can use it.
    """

    kind = "running"

    def __init__(self, label: str, directory: Path, url: str, pid: int) -> None:
        super().__init__(label, directory)
        self.url, self.known_pid, self.used = url, pid, False

    @property
    def pid(self) -> int:
        return self.known_pid

    def start(self) -> None:
        if not Path(f"/proc/{self.known_pid}").exists():
            raise TargetError(f"{self.label}: no process {self.known_pid}")

    def add_lun(self, name: str, size_mib: int, fill: bool = True) -> str:
        if self.used:
            raise TargetError(f"{self.label} has one LUN only")
        self.used = True
        if fill:
            initiator.fill(self.url, size_mib)
        return self.url

    def version(self) -> str:
        return f"{self.label} {first_line(f'/proc/{self.known_pid}/exe', '--version')}".strip()
