"""Every sequence of a few operations on a few blocks, with a crash before and after every device request of the last one."""

from __future__ import annotations

import itertools
import pickle
import random
from collections.abc import Callable

import pytest

from tests.crash.rig import Config, Rig, format_disk, open_pool
from tests.support.history import Op, Violation
from tests.support.oracle import Oracle
from tests.support.simdisk import SimDisk

CONFIG = Config(size_bytes=26 << 20, cache_bytes=0, checked=False)
POWER_MODES = ("none", "all", "random", "suffix", "writes")


class Scene:
    """A small volume on a rig, and the operations that sequences are made of."""

    def __init__(self, disk: SimDisk) -> None:
        self.rig = Rig(1, CONFIG, disk)
        self.rig.do("create", name="v", size_bytes=16 << 10, block_bytes=512)
        (self.volume,) = self.rig.oracle.objects

    def write(self, offset: int, length: int, *, fua: bool = False, kind: str = "write") -> Op:
        data = self.rig.oracle.make_data(self.volume, offset, length)
        return self.rig.start(kind, object_id=self.volume, offset_bytes=offset, data=data, fua=fua)

    def newest(self, kind: str) -> int:
        return max((m.id for m in self.rig.oracle.objects.values() if m.kind == kind), default=0)

    def snapshot(self) -> Op:
        return self.rig.start("snapshot", pairs=[(self.volume, f"v@{self.rig.new_name()}")])

    def delete(self) -> Op | None:
        victim = self.newest("snapshot") or self.newest("clone")
        return self.rig.start("delete", object_id=victim) if victim else None

    def revert(self) -> Op | None:
        source = self.newest("snapshot")
        if not source:
            return None
        return self.rig.start("revert", volume_id=self.volume, snapshot_id=source, safety_name="")

    def write_clone(self) -> Op | None:
        clone = self.newest("clone")
        if not clone:
            return None
        data = self.rig.oracle.make_data(clone, 0, 4096)
        return self.rig.start("write", object_id=clone, offset_bytes=0, data=data)

    def resize(self) -> Op:
        size = self.rig.oracle.objects[self.volume].current_size()
        return self.rig.start("resize", object_id=self.volume, size_bytes=4 << 10 if size > 8192 else 16 << 10)

    def share(self) -> Op | None:
        if self.rig.oracle.objects[self.volume].current_size() < 12 << 10:
            return None
        return self.rig.start("share", dst_id=self.volume, dst_offset_bytes=8192, src_id=self.volume,
                              src_offset_bytes=0, length_bytes=4096)

    def fits(self, end: int) -> bool:
        return self.rig.oracle.objects[self.volume].current_size() >= end


STEPS: dict[str, Callable[[Scene], Op | None]] = {
    "w0": lambda s: s.write(0, 4096),
    "w01": lambda s: s.write(0, 8192) if s.fits(8192) else None,
    "p0": lambda s: s.write(512, 512),
    "atom": lambda s: s.write(512, 8192, kind="write_atomic") if s.fits(12 << 10) else None,
    "f1": lambda s: s.write(4096, 4096, fua=True) if s.fits(8192) else None,
    "u0": lambda s: s.rig.start("unmap", object_id=s.volume, offset_bytes=0, length_bytes=4096),
    "flush": lambda s: s.rig.start("flush"),
    "snap": Scene.snapshot,
    "clone": lambda s: s.rig.start("clone", source_id=s.volume, name=s.rig.new_name()),
    "wclone": Scene.write_clone,
    "del": Scene.delete,
    "revert": Scene.revert,
    "resize": Scene.resize,
    "share": Scene.share,
    "ckpt": lambda s: s.rig.start("checkpoint"),
}
BEGINNINGS = sorted(STEPS.keys() - {"wclone", "del", "revert"})     # those need what others have made


class Replayer:
    """Runs sequences, and examines the crashes that may interrupt their last operation."""

    def __init__(self) -> None:
        self.template = format_disk(CONFIG)
        self.crashes = 0
        self.modes = itertools.cycle(POWER_MODES)
        self.examined: set[tuple[str, bytes, frozenset[tuple[int, bytes]]]] = set()    # of the sequence that runs

    def run(self, names: tuple[str, ...], *, every_mode: bool) -> None:
        scene = Scene(self.template.fork(1))
        rig = scene.rig
        self.examined.clear()
        rig.random.random = lambda: 0.5                      # type: ignore[method-assign]  # always perform what is pending
        rig.random.choice = lambda options: options[0]       # type: ignore[method-assign]  # the oldest first
        try:
            for i, name in enumerate(names):
                if i == len(names) - 1:
                    rig.on_step = lambda: self.examine(rig, every_mode)
                op = STEPS[name](scene)
                if op is None:
                    return
                rig.settle(op)
            self.examine(rig, every_mode)
            while rig.step():                                # background work: reclaim, deferred commits
                pass
            self.examine(rig, every_mode)
        except (Violation, AssertionError) as error:
            raise Violation(f"sequence {' '.join(names)}: {error}\n{rig.story()}") from error
        finally:
            rig.pool.abandon()

    def examine(self, rig: Rig, every_mode: bool) -> None:
        """What if it stopped here? Judge the crashes on copies; the life under examination goes on untouched.

        More than half of them leave the same bytes, expected by the same oracle, as one before: a read changes nothing, and
        without anything unsynced all modes are one. What the pool that is opened can see decides all, so those are not judged
        again.
        """
        frozen = pickle.dumps(rig.oracle)
        modes = [*POWER_MODES, "kill"] if every_mode else [next(self.modes), "none", "kill"]
        for mode in modes:
            disk = rig.disk.fork(self.crashes)
            disk.process_kill() if mode == "kill" else disk.power_cut(mode)
            left = ("kill" if mode == "kill" else "power", frozen, frozenset(disk.view.items()))
            if left in self.examined:
                continue
            self.examined.add(left)
            self.crashes += 1
            oracle: Oracle = pickle.loads(frozen)
            oracle.crash(power=mode != "kill")
            try:
                pool = open_pool(disk, CONFIG)
                try:
                    oracle.reconcile(pool)
                    if self.crashes % 4 == 0:
                        pool.close()
                        rig.check(disk)
                finally:
                    pool.abandon()
            except Exception as error:
                raise Violation(f"after {mode} at operation {rig.disk.operations}: "
                                f"{type(error).__name__}: {error}") from error


@pytest.mark.parametrize("length", [1, 2])
def test_short_sequences(length: int) -> None:
    replayer = Replayer()
    for names in itertools.product(STEPS, repeat=length):
        replayer.run(names, every_mode=length == 1)
    assert replayer.crashes > 50


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("first", BEGINNINGS)
def test_longer_sequences(first: str, crash_full: bool, first_seed: int) -> None:
    """All sequences of three and four that begin so with --crash-full; a sample drawn from the seed otherwise."""
    everything = [(first, *rest) for length in (2, 3) for rest in itertools.product(STEPS, repeat=length)]
    if not crash_full:
        everything = random.Random(f"{first_seed} {first}").sample(everything, 10)
    replayer = Replayer()
    for names in everything:
        replayer.run(names, every_mode=False)
    assert replayer.crashes > 10
