"""The bench's workplace: a directory on one medium with the targets started in it."""

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from bench.measure import Run
from bench.peers import Istgt, Running, Tgt
from bench.spdk import Spdk
from bench.targets import Lunette, Target, TargetError

PAIR = ("lunette", "tgt")   # suites that measure only these two
POOL_OVERHEAD = 3   # pool size over the LUNs in it: room for copies that snapshots keep


class Lab:
    """Starts one target of each kind the run asks for; ends and removes them on exit.

    variants: Lunettes to start, {suffix of the label: arguments of `lunette serve`}. only: the kinds to start (empty: all).
    direct: O_DIRECT storage, where a target can. digests: let tgt grant them. spdk_files: SPDK's disks are files (past the page
    cache; so they are where `direct` is wanted). `devices`: block devices to use instead of files, by kind of target.
    """

    def __init__(self, run: Run, medium: str, *, pool_mib: int = 0, variants: Mapping[str, tuple[str, ...]] | None = None,
                 only: tuple[str, ...] = (), direct: bool = False, digests: bool = False, spdk_files: bool = False) -> None:
        self.run, self.medium = run, medium
        self.base: Path = run.media[medium]
        self.pool_mib = pool_mib or run.plan.size_mib * POOL_OVERHEAD + 256
        self.variants = {"": ()} if variants is None else variants
        self.only, self.direct, self.digests = only, direct, digests
        self.spdk_files = spdk_files or direct
        self.devices: dict[str, Path] = {}
        self.targets: list[Target] = []
        self.directory = Path()

    def make(self) -> list[Target]:
        made: list[Target] = []
        for label, kind in self.run.targets.items():
            if self.only and kind not in self.only:
                continue
            if kind == "tgt":
                made.append(Tgt(label, self.directory, direct=self.direct, digests=self.digests))
            elif kind == "istgt":
                made.append(Istgt(label, self.directory))
            elif kind == "spdk":
                made.append(Spdk(label, self.directory, disks_mib=self.pool_mib, direct=self.spdk_files))
            elif kind == "lunette":
                made += [Lunette(label + suffix, self.directory, pool_mib=self.pool_mib,
                                 serve=serve + (("--direct",) if self.direct else ()))
                         for suffix, serve in self.variants.items()]
            else:
                url, _, pid = kind.rpartition(",")
                made.append(Running(label, self.directory, url, int(pid)))
        return made

    def __enter__(self) -> "Lab":
        self.base.mkdir(parents=True, exist_ok=True)
        self.directory = Path(tempfile.mkdtemp(prefix="lunette-bench.", dir=self.base))
        try:
            for target in self.make():
                target.device = self.devices.get(target.kind)
                self.targets.append(target)
                try:
                    target.start()
                    self.run.versions[target.kind] = target.version()
                except (TargetError, OSError) as error:     # whatever it died of: nothing of it may run on beside the others
                    self.targets.remove(target)
                    target.discard()
                    self.run.note(f"{self.run.suite}: {target.label} left out: {error}")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 trace: TracebackType | None) -> None:
        for target in self.targets:
            if value is not None and target.process is not None:
                self.run.note(f"{self.run.suite}: {target.label}, exit status {target.process.poll()}, said last: "
                              f"{target.last_words()}; {target.condition()}")
            target.discard()
        shutil.rmtree(self.directory, ignore_errors=True)

    def luns(self, size_mib: int, name: str = "v", fill: bool = True) -> dict[str, str]:
        """One LUN on every target; {target label: URL}. A target that cannot have it is left out from here on."""
        urls = {}
        for target in list(self.targets):
            try:
                urls[target.label] = target.add_lun(name, size_mib, fill)
            except TargetError as error:
                self.targets.remove(target)
                target.discard()
                self.run.note(f"{self.run.suite}: {target.label} left out: {error}")
        if fill:
            self.settle()
        return urls

    def settle(self) -> None:
        """What a fill left some target to do would be measured as everybody's slowness."""
        for target in self.targets:
            target.settle()

    def lunettes(self) -> list[Any]:
        return [t for t in self.targets if t.kind == "lunette"]
