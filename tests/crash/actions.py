"""What a seeded life of a pool consists of: each action starts one operation that makes sense now, or none."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from core.errors import PoolError
from tests.crash.rig import BLOCK, SECTOR, Config, Rig
from tests.support.history import Op, Violation

Action = Callable[[Rig], Op | None]
RUN = 2 << 20


def create(rig: Rig) -> Op | None:
    if len(rig.oracle.objects) >= rig.config.max_objects:
        return None
    r = rig.random
    size = r.choice(rig.config.sizes or (rig.config.volume_bytes, rig.config.volume_bytes, 64 << 10, 2 << 20))
    return rig.start("create", name=rig.new_name(), size_bytes=size, block_bytes=r.choice((512, 512, 4096)),
                     checksum=r.random() < rig.config.checksums)


def write(rig: Rig) -> Op | None:
    if not rig.volumes():
        return None
    model = rig.random.choice(rig.volumes())
    offset, length = rig.place(model)
    return rig.start("write", object_id=model.id, offset_bytes=offset, fua=rig.random.random() < rig.config.fua,
                     data=rig.oracle.make_data(model.id, offset, length))


def fill(rig: Rig) -> Op | None:
    """All that one leaf of a volume's map spans: what becomes a huge entry."""
    models = [m for m in rig.volumes() if rig.size_of(m) >= RUN]
    if not models:
        return None
    model = rig.random.choice(models)
    offset = rig.random.randrange(rig.size_of(model) // RUN) * RUN
    return rig.start("write", object_id=model.id, offset_bytes=offset, data=rig.oracle.make_data(model.id, offset, RUN))


def ripen(rig: Rig) -> Op | None:
    """A huge entry of which some blocks are shared: before its leaf was full, or since. Then writes to blocks of both kinds."""
    models = [m for m in rig.volumes() if rig.size_of(m) >= RUN and not rig.busy(m)]
    quiet = [m for m in models if rig.quiet(m)]
    if not quiet or len(rig.oracle.objects) >= rig.config.max_objects:
        return None
    r = rig.random
    model = r.choice(quiet)
    start, head = r.randrange(rig.size_of(model) // RUN) * RUN, r.choice((0, 0, BLOCK, 3 * BLOCK))

    def put(offset: int, length: int) -> Op:
        return rig.start("write", object_id=model.id, offset_bytes=offset, data=rig.oracle.make_data(model.id, offset, length))

    rig.do("unmap", object_id=model.id, offset_bytes=start, length_bytes=RUN)
    rig.settle(put(start + head, RUN - head))
    at, count = start + r.randrange(head // BLOCK, RUN // BLOCK - 16) * BLOCK, r.choice((1, 8, 16)) * BLOCK
    if r.random() < 0.5:
        rig.settle(put(at, BLOCK))                # in place: it is known to be the volume's alone
    others = [m for m in models if m is not model and m.checksum == model.checksum]
    if others and r.random() < 0.7:
        rig.do("share", dst_id=r.choice(others).id, dst_offset_bytes=0, src_id=model.id, src_offset_bytes=at, length_bytes=count)
    else:
        rig.do("snapshot", pairs=[(model.id, f"{model.name[0].value}@{rig.new_name()}")])
    if head:
        rig.settle(put(start, head))
    anywhere = start + r.randrange(RUN // BLOCK) * BLOCK
    for first, blocks in ((at - BLOCK, 2), (at + count - BLOCK, 2), (at + BLOCK, 1), (anywhere, 1)):
        if r.random() < 0.6 and start <= first <= start + RUN - blocks * BLOCK:
            put(first, r.choice((model.block_bytes, blocks * BLOCK)))
    return None


def write_atomic(rig: Rig) -> Op | None:
    if not rig.volumes():
        return None
    model = rig.random.choice(rig.volumes())
    area = min(rig.size_of(model), rig.config.hot_bytes)
    length = rig.random.randrange(SECTOR, min(area, 40 << 10) + 1) // model.block_bytes * model.block_bytes or model.block_bytes
    offset = rig.random.randrange(0, area - length + 1) // model.block_bytes * model.block_bytes
    return rig.start("write_atomic", object_id=model.id, offset_bytes=offset, fua=rig.random.random() < rig.config.fua,
                     data=rig.oracle.make_data(model.id, offset, length))


def unmap(rig: Rig) -> Op | None:
    if not rig.volumes():
        return None
    model = rig.random.choice(rig.volumes())
    offset, length = rig.place(model)
    further = [rig.place(model) for _ in range(rig.random.choice((0, 0, 0, 1, 5)))]
    return rig.start("unmap", object_id=model.id, offset_bytes=offset, length_bytes=length, further=further,
                     fua=rig.random.random() < rig.config.fua / 2, keep=rig.random.random() < 0.2)


def read(rig: Rig) -> Op | None:
    if not rig.oracle.objects:
        return None
    models = [m for m in rig.oracle.objects.values() if not m.deleting]
    if not models:
        return None
    model = rig.random.choice(models)
    offset, length = rig.place(model)
    return rig.start("read", object_id=model.id, offset_bytes=offset, length_bytes=length)


def look(rig: Rig) -> Op | None:
    """What the newest snapshot holds where most is written."""
    if not rig.snapshots():
        return None
    model = rig.snapshots()[-1]
    return rig.start("read", object_id=model.id, offset_bytes=0, length_bytes=min(rig.size_of(model), rig.config.hot_bytes))


def flush(rig: Rig) -> Op | None:
    return rig.start("flush")


def checkpoint(rig: Rig) -> Op | None:
    return rig.start("checkpoint")


def compare_and_write(rig: Rig) -> Op | None:
    if not rig.volumes():
        return None
    model = rig.random.choice(rig.volumes())
    offset, length = rig.place(model, 8 << 10)
    length = min(length, 64 << 10)
    if not rig.oracle.settled(model, offset, length):
        return None
    expected = b"".join(rig.oracle.bytes_of(model, offset // SECTOR + i) for i in range(length // SECTOR))
    if rig.random.random() < 0.25:
        at = rig.random.randrange(length)
        expected = expected[:at] + bytes([expected[at] ^ 1]) + expected[at + 1:]
    return rig.start("compare_and_write", object_id=model.id, offset_bytes=offset, expected=expected,
                     data=rig.oracle.make_data(model.id, offset, length), fua=rig.random.random() < rig.config.fua / 2)


def share(rig: Rig) -> Op | None:
    target = rig.random.choice(rig.volumes()) if rig.volumes() else None
    sources = [m for m in rig.oracle.objects.values() if target and m.checksum == target.checksum and not m.deleting]
    if not target or not sources:
        return None
    source = rig.random.choice(sources)
    to, length = rig.place(target, 64 << 10)
    to, length = to // BLOCK * BLOCK, (length + BLOCK - 1) // BLOCK * BLOCK
    length = min(length, rig.size_of(source), rig.size_of(target) - to)
    from_ = rig.random.choice((to, rig.random.randrange(0, rig.size_of(source) - length + 1))) // BLOCK * BLOCK
    if from_ + length > rig.size_of(source) or (source is target and from_ < to + length and to < from_ + length):
        return None
    open_too = rig.random.random() < 0.5      # what is being written there meanwhile is copied or not
    if length <= 0 or not (open_too or (rig.oracle.settled(source, from_, length) and rig.oracle.settled(target, to, length))):
        return None
    return rig.start("share", dst_id=target.id, dst_offset_bytes=to, src_id=source.id, src_offset_bytes=from_,
                     length_bytes=length)


def snapshot(rig: Rig) -> Op | None:
    sources = [m for m in rig.volumes() if not rig.busy(m)]
    room = rig.config.max_objects - len(rig.oracle.objects)
    if not sources or room <= 0:
        return None
    count = min(len(sources), room, rig.random.choice((1, 1, 2, 3)))
    pairs = [(m.id, f"{m.name[0].value}@{rig.new_name()}") for m in rig.random.sample(sources, count)]
    return rig.start("snapshot", pairs=pairs)


def clone(rig: Rig) -> Op | None:
    sources = [m for m in rig.oracle.objects.values() if not m.deleting and not rig.busy(m)]
    if not sources or len(rig.oracle.objects) >= rig.config.max_objects:
        return None
    return rig.start("clone", source_id=rig.random.choice(sources).id, name=rig.new_name())


def delete(rig: Rig) -> Op | None:
    victims = [m for m in rig.oracle.objects.values() if not m.deleting and not rig.busy(m)]
    if len(victims) < 3:
        return None
    return rig.start("delete", object_id=rig.random.choice(victims).id)


def revert(rig: Rig) -> Op | None:
    pairs = [(v, s) for v in rig.volumes() for s in rig.snapshots()
             if not rig.busy(v) and not rig.busy(s) and str(s.name[0].value).startswith(f"{v.name[0].value}@")
             and rig.quiet(s)]
    if not pairs:
        return None
    volume, snap = rig.random.choice(pairs)
    safety = f"{volume.name[0].value}@{rig.new_name()}" if rig.random.random() < 0.5 else ""
    return rig.start("revert", volume_id=volume.id, snapshot_id=snap.id, safety_name=safety)


def _told(changes: dict[str, bytes], _made: Any) -> dict[str, bytes]:
    """The keys of a publication, whatever ids it made. An oracle is copied with it, so it is no lambda."""
    return changes


def publish(rig: Rig) -> Op | None:
    """What was written to a clone of a snapshot becomes the next one; the volume follows, unless somebody writes to it."""
    r = rig.random
    volumes = [m for m in rig.volumes() if not rig.busy(m)]
    if not volumes or len(rig.oracle.objects) + 3 > rig.config.max_objects:
        return None
    volume = r.choice(volumes)
    name = str(volume.name[0].value)
    made = rig.do("snapshot", pairs=[(volume.id, f"{name}@{rig.new_name()}")])
    base = rig.oracle.objects.get(made.value[0]) if made.ok else None
    cloned = rig.do("clone", source_id=base.id, name=rig.new_name()) if base else None
    staged = rig.oracle.objects.get(cloned.value) if cloned and cloned.ok else None
    if base is None or staged is None:
        return None
    if r.random() < 0.2:
        rig.do("resize", object_id=staged.id, size_bytes=r.choice((64 << 10, 1 << 20, 2 << 20)))
    for _ in range(r.randrange(4)):
        offset, length = rig.place(staged)
        rig.do("write", object_id=staged.id, offset_bytes=offset, data=rig.oracle.make_data(staged.id, offset, length))
    for _ in range(r.choice((0, 0, 1, 2))):
        write(rig)                                # perhaps to the volume, and under way when it is published
    rig.do("read", object_id=base.id, offset_bytes=0, length_bytes=rig.size_of(base))
    if not (rig.quiet(staged) and rig.quiet(base)) or rig.busy(volume) or volume.deleting or base.deleting:
        return None
    item = {"staged_id": staged.id, "volume_id": volume.id, "base_id": base.id, "snapshot_name": f"{name}@{rig.new_name()}"}
    changes = {f"from{base.id}": r.randbytes(r.choice((0, 40, 2000)))}
    return rig.start("publish", items=[item], keys=partial(_told, changes))


def resize(rig: Rig) -> Op | None:
    volumes = [m for m in rig.volumes() if not rig.busy(m)]
    if not volumes:
        return None
    r = rig.random
    size = r.choice((16 << 10, 20 << 10, 64 << 10, 1 << 20, rig.config.volume_bytes, 2 << 20,
                     r.randrange(4, 512) * BLOCK, *rig.config.sizes))
    return rig.start("resize", object_id=r.choice(volumes).id, size_bytes=size)


def rename(rig: Rig) -> Op | None:
    volumes = [m for m in rig.volumes() if not rig.busy(m)
               and not any(str(s.name[0].value).startswith(f"{m.name[0].value}@") for s in rig.snapshots())]
    if not volumes:
        return None
    return rig.start("rename", object_id=rig.random.choice(volumes).id, name=rig.new_name())


def grow(rig: Rig) -> Op | None:
    """The medium is enlarged, and the pool with it."""
    if any(op.kind == "grow" for op in rig.oracle.inflight) or rig.disk.size_bytes >= 2 * rig.config.size_bytes:
        return None
    rig.disk.size_bytes += 4 << 20
    return rig.start("grow", size_bytes=rig.disk.size_bytes)


def set_properties(rig: Rig) -> Op | None:
    """A quota or a reservation is set or taken away, or what else is kept of a volume changed."""
    volumes = [m for m in rig.volumes() if not rig.busy(m)]
    if not volumes:
        return None
    r = rig.random
    change: dict[str, object] = r.choice((
        {"props": r.randbytes(r.randrange(100))}, {"quota_bytes": r.choice((0, 0, 1 << 20)), "reserve_bytes": 0},
        {"reserve_bytes": r.choice((0, 64 << 10, 1 << 20))}))
    try:
        return rig.start("set", object_id=r.choice(volumes).id, **change)
    except PoolError as error:            # more than can be kept, or beyond the quota: refused before it begins
        if error.code not in ("no_space", "invalid"):
            raise
        rig.refused()
        return None


def kv(rig: Rig) -> Op | None:
    r = rig.random
    changes = {f"key{r.randrange(6)}": None if r.random() < 0.3 else r.randbytes(r.choice((0, 5, 400, 3000)))
               for _ in range(r.randrange(1, 4))}
    return rig.start("kv", changes=changes)


ACTIONS: dict[Action, int] = {
    create: 4, write: 40, write_atomic: 6, unmap: 8, read: 6, flush: 9, checkpoint: 3, compare_and_write: 4, share: 6,
    snapshot: 8, clone: 6, delete: 7, revert: 4, publish: 3, resize: 4, rename: 1, kv: 3, grow: 1, set_properties: 2,
}


def live(rig: Rig, steps: int, *, crash_every: int = 40, weights: dict[Action, int] | None = None) -> None:
    """A seeded life: operations overlap, requests are performed out of order, crashes come without warning."""
    table = weights or ACTIONS
    actions, chances = list(table), list(table.values())
    if rig.config.filler_bytes:
        filler = rig.do("create", name=rig.new_name(), size_bytes=rig.config.filler_bytes)
        for offset in range(0, rig.config.filler_bytes if filler.ok else 0, 128 << 10):
            data = rig.oracle.make_data(max(rig.oracle.objects), offset, 128 << 10)
            rig.do("write", object_id=max(rig.oracle.objects), offset_bytes=offset, data=data)
    for _ in range(2):
        op = create(rig)
        if op:
            rig.settle(op)
    for _ in range(steps):
        dice = rig.random.random()
        if dice < 1 / crash_every:
            rig.crash_cycle()
        elif dice < 1 / crash_every + 0.01:
            rig.settle()
            if rig.config.faults and not rig.faulty:
                rig.inject()
            elif rig.faulty:
                rig.crash_cycle()
            else:
                rig.verify()
        elif len(rig.tokens) < rig.config.max_inflight and dice < 0.55:
            rig.random.choices(actions, chances)[0](rig)
        else:
            rig.step()
            if rig.random.random() < rig.config.settle:
                rig.settle()
    rig.settle()
    if rig.faulty:
        rig.crash_cycle()
    rig.verify()
    rig.pool.close()
    rig.check(rig.disk)
    rig.after_close(power=rig.random.random() < 0.5)


def run_seed(seed: int, config: Config | None = None, *, steps: int = 250, crash_every: int = 40,
             weights: dict[Action, int] | None = None) -> Rig:
    """One life from one seed; a violation says everything needed to see it again."""
    rig = Rig(seed, config)
    try:
        live(rig, steps, crash_every=crash_every, weights=weights)
    except Violation as error:
        raise Violation(f"{error}\n{rig.story()}") from error
    except Exception as error:
        raise Violation(f"{type(error).__name__}: {error}\n{rig.story()}") from error
    finally:
        if rig.pool is not None:
            rig.pool.abandon()
    return rig


# Lives that dwell on one thing: what a missing barrier needs to show.
STEADY: dict[Action, int] = {create: 1, write: 50, flush: 14, snapshot: 3, delete: 3, unmap: 4}
PUBLISHING: dict[Action, int] = {create: 2, write: 20, checkpoint: 20, snapshot: 6, delete: 6, flush: 2, kv: 2}
RECORDING: dict[Action, int] = {create: 8, snapshot: 20, kv: 20, delete: 20, write: 5, flush: 2}
WHOLE: dict[Action, int] = {create: 1, write: 6, write_atomic: 40, read: 4, snapshot: 2, delete: 2}
HUGE: dict[Action, int] = {create: 2, fill: 8, ripen: 12, write: 30, write_atomic: 4, unmap: 8, share: 16, snapshot: 8,
                          delete: 8, clone: 4, revert: 2, resize: 2, look: 4, read: 4, flush: 4, checkpoint: 3}
FREEING: dict[Action, int] = {create: 2, write: 40, snapshot: 6, delete: 8, unmap: 10}
PUNCHING: dict[Action, int] = {create: 4, write: 40, write_atomic: 30, flush: 4, snapshot: 2, delete: 4, read: 4}
LOCKED: dict[Action, int] = {create: 1, write: 20, write_atomic: 10, compare_and_write: 20, read: 8, snapshot: 1, delete: 1}
REVERTING: dict[Action, int] = {create: 1, write: 60, snapshot: 8, revert: 16, delete: 6, flush: 2}
SHARING: dict[Action, int] = {create: 1, write: 40, snapshot: 16, delete: 8, clone: 6, read: 3, flush: 3}
RECEIVING: dict[Action, int] = {create: 2, write: 20, publish: 12, snapshot: 2, delete: 14, flush: 3, kv: 3, checkpoint: 3}
COPYING: dict[Action, int] = {create: 1, write: 50, share: 20, write_atomic: 3, read: 3, flush: 2, delete: 1}
UNSYNCED: dict[Action, int] = {create: 2, write: 60, write_atomic: 5, unmap: 10, flush: 1}


class Lives(NamedTuple):
    """So many seeds of one kind of life."""

    seeds: int
    config: Config = Config()
    steps: int = 250
    crash_every: int = 40
    weights: dict[Action, int] | None = None

    def run(self, seed: int) -> Rig:
        return run_seed(seed, self.config, steps=self.steps, crash_every=self.crash_every, weights=self.weights)


# What must fail when one rule is missing. "looking": the newest snapshot is read while writes in place that began before it
# are under way; "huge": entries that map 2 MiB come, are shared, and go; "insisting": little but writes in place, FUA and
# flushes, and syncs that last; "receiving": what was received is published, and crashes come often; "meeting": parts of few
# blocks are written in place, anew and under a lock; "returning": what a read goes to is freed and soon used again.
DWELLING = {
    "looking": Lives(24, Config(stuck=0.2, slow="data", hot_bytes=4 << 10, parts=0.3, checksums=0, max_inflight=24, max_objects=4,
                                settle=0.01), 600, 400, {create: 1, write: 60, snapshot: 8, look: 20, delete: 6, flush: 2}),
    "huge": Lives(8, Config(size_bytes=64 << 20, volume_bytes=4 << 20, hot_bytes=4 << 20, parts=0.2, checksums=0.1,
                            max_objects=8), 200, 60, HUGE),
    "insisting": Lives(24, Config(stuck=0.5, slow="sync", hot_bytes=16 << 10, power=1, fua=0.3, checksums=0, max_inflight=4,
                                  max_objects=3, settle=0.03), 300, 12,
                        {create: 1, write: 40, flush: 20, snapshot: 1, delete: 1}),
    "receiving": Lives(16, Config(stuck=0.2, max_objects=14, hot_bytes=24 << 10), 200, 25, RECEIVING),
    "meeting": Lives(24, Config(stuck=0.4, slow="data", hot_bytes=8 << 10, parts=0.8, max_inflight=8, max_objects=3, settle=0.01),
                     400, 150, {create: 1, write: 40, write_atomic: 20, compare_and_write: 6, read: 6, unmap: 2}),
    "returning": Lives(24, Config(size_bytes=26 << 20, volume_bytes=4 << 20, hot_bytes=16 << 10, stuck=0.6, slow="read", fua=0.5,
                                  checksums=1, max_inflight=16, max_objects=4, settle=0.01), 400, 150,
                       {create: 1, write: 30, write_atomic: 10, read: 30, unmap: 12, flush: 10, snapshot: 3, delete: 3}),
}
