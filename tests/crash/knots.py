"""Knots: operations that want a range alone, and others that work on it in slices, in flight together; judged by serial order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.crash.actions import ACTIONS, RUN, Action, checkpoint, delete, flush, snapshot, write
from tests.crash.rig import BLOCK, SECTOR, Config, Rig
from tests.support.history import ObjectModel, Op, Violation, unstamp
from tests.support.serial import Act, Place, ordered

LEAVES = 200                 # of the field: what an UNMAP of all of it needs several turns for
FIELD = LEAVES * RUN
DONE = frozenset({"ok", "miscompare"})


def field(rig: Rig) -> ObjectModel | None:
    """A snapshot with a sector on both sides of every other border of its leaves. It is made when there is none."""
    for model in rig.snapshots():
        if str(model.name[0].value).startswith("field@") and not rig.busy(model):
            return model
    names = [str(model.name[0].value) for model in rig.oracle.objects.values()]
    if any(name == "field" or name.startswith("field@") for name in names):
        return None                      # being deleted
    if not rig.do("create", name="field", size_bytes=FIELD, block_bytes=512).ok:
        return None
    volume = max(rig.oracle.objects)
    for border in range(1, LEAVES, 2):
        at = border * RUN - SECTOR
        op = rig.start("write", object_id=volume, offset_bytes=at, data=rig.oracle.make_data(volume, at, 2 * SECTOR))
        if border % 16 == 1:
            rig.settle(op)
    rig.settle()
    made = rig.do("snapshot", pairs=[(volume, f"field@{rig.new_name()}")])
    found = max(rig.oracle.objects) if made.ok else 0
    rig.do("delete", object_id=volume)
    return rig.oracle.objects.get(found)


class Knot:
    """One volume that nobody else knows, one border of its leaves, and what meets there."""

    def __init__(self, rig: Rig, volume: ObjectModel, source: ObjectModel, base: ObjectModel) -> None:
        self.rig, self.volume, self.source, self.base = rig, volume, source, base
        self.random = rig.random
        self.border = rig.random.randrange(LEAVES // 2) * 2 * RUN + RUN
        self.ops: list[Op] = []
        self.written: list[bytes] = []               # by others, both sides of the border: 2 blocks each
        self.before = {lba: rig.oracle.current(volume, lba) for lba in self.sectors(self.border - 4 * BLOCK, 8 * BLOCK)}
        self.copied = {lba: rig.oracle.current(source, lba) or 0 for lba in source.sectors}

    @staticmethod
    def sectors(offset_bytes: int, length_bytes: int) -> range:
        return range(offset_bytes // SECTOR, (offset_bytes + length_bytes) // SECTOR)

    def start(self, kind: str, **args: Any) -> None:
        self.ops.append(self.rig.start(kind, **args))

    def across(self, most: int = 2 * BLOCK) -> tuple[int, int]:
        """(offset, length) of some sectors or blocks on both sides of the border."""
        grain = self.random.choice((self.volume.block_bytes, BLOCK))
        left, right = (self.random.randrange(1, most // grain + 1) * grain for _ in range(2))
        return self.border - left, left + right

    def fresh(self, offset: int, length: int) -> bytes:
        data = self.rig.oracle.make_data(self.volume.id, offset, length)
        pad = self.border - BLOCK - offset
        self.written.append((bytes(max(-pad, 0)) + data)[max(pad, 0):][:2 * BLOCK].ljust(2 * BLOCK, b"\0"))
        return data

    # -- what meets --------------------------------------------------------------------------------------------------

    def write(self) -> None:
        offset, length = self.across()
        self.start("write", object_id=self.volume.id, offset_bytes=offset, data=self.fresh(offset, length))

    def write_atomic(self) -> None:
        offset, length = self.across()
        self.start("write_atomic", object_id=self.volume.id, offset_bytes=offset, data=self.fresh(offset, length))

    def read(self) -> None:
        offset, length = self.across()
        self.start("read", object_id=self.volume.id, offset_bytes=offset, length_bytes=length)

    def unmap(self) -> None:
        """Hundreds of leaves, or what lies around the border; its blocks kept or not."""
        self.written.append(bytes(2 * BLOCK))
        if self.random.random() < 0.3:
            offset, length = self.across(4 * BLOCK)
            keep = self.random.random() < 0.5
        else:
            first = self.random.choice((0, self.border - RUN, self.border - BLOCK))
            offset, length, keep = first, self.random.choice((FIELD, self.border + BLOCK)) - first, False
        self.start("unmap", object_id=self.volume.id, offset_bytes=offset, length_bytes=length, keep=keep)

    def share(self) -> None:
        """What lies around another border, or all but the last leaves of the field, moved by two."""
        two = 2 * RUN
        if self.random.random() < 0.5:
            offset, length = self.border - 4 * BLOCK, 8 * BLOCK
        else:
            offset, length = 0, FIELD - two
        if offset + length + two > FIELD:
            return
        self.written.append(b"".join(self.rig.oracle.bytes_of(self.source, lba)
                                     for lba in self.sectors(self.border + two - BLOCK, 2 * BLOCK)))
        self.start("share", dst_id=self.volume.id, dst_offset_bytes=offset, src_id=self.source.id,
                   src_offset_bytes=offset + two, length_bytes=length)

    def snapshot(self) -> None:
        self.start("snapshot", pairs=[(self.volume.id, f"{self.volume.name[0].value}@{self.rig.new_name()}")])

    def revert(self) -> None:
        if not any(op.kind in ("revert", "snapshot") for op in self.ops):
            self.start("revert", volume_id=self.volume.id, snapshot_id=self.base.id)

    def compare_and_write(self) -> None:
        """It expects, on each side of the border, what is there or what one of the others writes."""
        offset, length = self.across()
        start = self.border - 4 * BLOCK
        old = b"".join(self.rig.oracle.bytes_of(self.base, lba) for lba in self.sectors(start, 8 * BLOCK))
        sides = []
        for side in range(2):
            mine = bytearray(old[side * 4 * BLOCK:(side + 1) * 4 * BLOCK])
            for data in [d for d in self.written if self.random.random() < 0.5]:
                block = slice(3 * BLOCK, 4 * BLOCK) if side == 0 else slice(0, BLOCK)
                mine[block] = data[side * BLOCK:(side + 1) * BLOCK]
            sides.append(bytes(mine))
        expected = b"".join(sides)[offset - start:offset - start + length]
        self.start("compare_and_write", object_id=self.volume.id, offset_bytes=offset, expected=expected,
                   data=self.fresh(offset, length))

    # -- what came of it ---------------------------------------------------------------------------------------------

    def act(self, op: Op) -> Act | None:
        """What an operation saw and did at the border; None: it failed, and nobody can tell."""
        a, act = op.args, Act(op.start, op.end, op.kind in ("compare_and_write", "write_atomic"))
        code, value = op.code, op.value
        if code not in DONE:
            return None
        lba = a.get("offset_bytes", 0) // SECTOR
        if code == "miscompare":
            upto = lba + value // SECTOR
            act.reads = self.values(lba, a["expected"][:value // SECTOR * SECTOR])
            act.refuted = {upto: unstamp(a["expected"][(upto - lba) * SECTOR:][:SECTOR])}
        elif op.kind in ("write", "write_atomic", "compare_and_write"):
            act.reads = self.values(lba, a.get("expected", b""))
            act.writes = self.values(lba, a["data"])
        elif op.kind == "read":
            act.reads = self.values(lba, value)
        elif op.kind == "unmap":
            act.writes = {at: 0 for at in self.before if lba <= at < lba + a["length_bytes"] // SECTOR}
        elif op.kind == "share":
            to, moved = a["dst_offset_bytes"] // SECTOR, (a["src_offset_bytes"] - a["dst_offset_bytes"]) // SECTOR
            act.writes = {at: self.copied.get(at + moved, 0) for at in self.before
                          if to <= at < to + a["length_bytes"] // SECTOR}
        elif op.kind == "revert":
            act.writes = {at: self.rig.oracle.current(self.base, at) or 0 for at in self.before}
        elif op.kind == "snapshot":
            act.reads = self.seen(value[0])
        return act

    @staticmethod
    def values(lba: int, data: bytes) -> dict[Place, int]:
        return {lba + i: unstamp(data[i * SECTOR:(i + 1) * SECTOR]) for i in range(len(data) // SECTOR)}

    def seen(self, object_id: int) -> dict[Place, int]:
        op = self.rig.do("read", object_id=object_id, offset_bytes=self.border - 4 * BLOCK, length_bytes=8 * BLOCK)
        return self.values(self.border // SECTOR - 32, op.value)

    def judge(self) -> None:
        after = self.seen(self.volume.id)
        acts = [self.act(op) for op in self.ops]
        if None in acts:
            return
        ranges = [act for act in acts if act is not None and act.alone]
        places = {place for act in ranges for place in (*act.writes, *act.reads, *act.refuted)}
        for act in [act for act in acts if act is not None]:
            for part in (act.writes, act.reads):
                for place in [place for place in part if place not in places]:
                    del part[place]
        before = {place: self.before[place] or 0 for place in self.before if place in places}
        if not ordered(before, [act for act in acts if act is not None], {place: after[place] for place in places}):
            told = "; ".join(f"{op} {op.code}" for op in self.ops)
            raise Violation(f"no serial order at {self.border}: {told}")
        for place in after:
            assert isinstance(place, int)
            self.rig.oracle.saw(self.volume, place, after[place])


def knot(rig: Rig) -> Op | None:
    """A clone of the field, some operations at one of its borders, all in flight together, and the judgement."""
    source = field(rig)
    if source is None or len(rig.oracle.objects) + 3 > rig.config.max_objects:
        return None
    if not rig.do("clone", source_id=source.id, name=rig.new_name()).ok:
        return None
    volume = rig.oracle.objects[max(rig.oracle.objects)]
    if not rig.do("snapshot", pairs=[(volume.id, f"{volume.name[0].value}@{rig.new_name()}")]).ok:
        return None
    base = rig.oracle.objects[max(rig.oracle.objects)]
    if rig.random.random() < 0.5:
        rig.do("checkpoint")             # what is clean is evicted, and read again in the midst
    tied = Knot(rig, volume, source, base)
    sliced: list[Callable[[], None]] = [tied.unmap, tied.unmap, tied.share, tied.revert, tied.write]
    alone: list[Callable[[], None]] = [tied.compare_and_write, tied.compare_and_write, tied.write_atomic]
    rest = [*sliced, *alone, tied.read, tied.snapshot]
    r = rig.random
    strands = [r.choice(sliced), r.choice(alone), *(r.choice(rest) for _ in range(r.randrange(4)))]
    for strand in strands:
        strand()
        for _ in range(r.choice((0, 0, 1, 3, 10))):
            rig.step()
    if r.random() < 0.1:
        rig.crash_cycle()
        return None
    for op in tied.ops:
        if op in rig.oracle.inflight:
            rig.settle(op)
    tied.judge()
    for model in [m for m in (*rig.snapshots(), volume) if str(m.name[0].value).startswith(str(volume.name[0].value))]:
        rig.do("delete", object_id=model.id)
    return None


CONFIG = Config(size_bytes=96 << 20, cache_bytes=0, max_objects=16, volume_bytes=1 << 20)
KNOTTED: dict[Action, int] = {knot: 30, write: 10, snapshot: 2, delete: 2, flush: 4, checkpoint: 4}
EVERYTHING: dict[Action, int] = {**ACTIONS, knot: 6}
