"""Actions of wider lives: time passes, the medium is thin and fills, several volumes are one group; and tables of all that."""

from __future__ import annotations

from tests.crash.actions import (
    ACTIONS,
    Action,
    checkpoint,
    clone,
    compare_and_write,
    create,
    delete,
    flush,
    grow,
    kv,
    read,
    resize,
    revert,
    set_properties,
    share,
    snapshot,
    unmap,
    write,
    write_atomic,
)
from tests.crash.rig import BLOCK, SECTOR, Rig
from tests.support.history import Op, Violation


def idle(rig: Rig) -> Op | None:
    """Nobody asks for anything: what the engine does by the clock becomes due, and some of it is done."""
    rig.now_us += rig.random.choice((1_000, 300_000, 1_100_000, 2_500_000, 31_000_000, 100_000_000))
    for _ in range(rig.random.choice((0, 1, 2, 5, 20))):
        rig.step()
    return None


def thin_out(rig: Rig) -> Op | None:
    """The medium has room for a few pages more, or is short no longer."""
    r, disk = rig.random, rig.disk
    if disk.capacity_bytes and r.random() < 0.6:
        disk.capacity_bytes = 0
        rig.note("-- the medium has room again")
        rig.settle()
        if rig.config.sparse and rig.pool.failure():
            raise Violation(f"the pool failed: {rig.pool.failure()}")
        if rig.pool.stats()["failed"]:
            rig.crash_cycle()
        rig.faulty, rig.tolerated = False, {"no_space"}
        return None
    else:
        disk.capacity_bytes = (disk.stored() + r.randrange(rig.config.thin_pages)) * 4096
        rig.note(f"-- the medium has {disk.capacity_bytes // 4096} pages in all")
    if rig.config.sparse:
        return None                   # what allocates is refused, and nothing else
    rig.faulty, rig.tolerated = True, rig.tolerated | {"no_space", "io_write", "read_only", "aborted"}
    return None


def write_run(rig: Rig) -> Op | None:
    """A region of 2 MiB in order, or its end: huge entries form, and form again."""
    if not rig.volumes():
        return None
    model = rig.random.choice(rig.volumes())
    offset, _ = rig.place(model)
    start = offset >> 21 << 21
    offset = rig.random.choice((start, start, max(start, offset)))
    length = min(rig.size_of(model), start + (2 << 20)) - offset
    if length <= 0:
        return None
    return rig.start("write", object_id=model.id, offset_bytes=offset, data=rig.oracle.make_data(model.id, offset, length))


def scatter(rig: Rig) -> Op | None:
    """A region in order, a snapshot of it that goes soon, and blocks here and there meanwhile: then they lie scattered."""
    models = [m for m in rig.volumes() if rig.size_of(m) >= 2 << 20 and not rig.busy(m)]
    if not models or len(rig.oracle.objects) >= rig.config.max_objects:
        return None
    r = rig.random
    model = r.choice(models)
    start = r.randrange(rig.size_of(model) >> 21) << 21

    def put(offset: int, length: int) -> Op:
        return rig.start("write", object_id=model.id, offset_bytes=offset, data=rig.oracle.make_data(model.id, offset, length))

    rig.settle(put(start, 2 << 20))
    op = rig.do("snapshot", pairs=[(model.id, f"{model.name[0].value}@{rig.new_name()}")])
    for block in sorted(r.sample(range(512), r.choice((20, 60)))):
        put(start + block * BLOCK, BLOCK)
        if len(rig.tokens) > 8:
            rig.step()
    rig.settle()
    if op.ok and r.random() < 0.9:
        return rig.start("delete", object_id=max(m.id for m in rig.snapshots()))
    return None


def thicken(rig: Rig) -> Op | None:
    """About half of a region is overwritten here and there after a snapshot that stays: it may be worth a run of its own."""
    models = [m for m in rig.volumes() if rig.size_of(m) >= 2 << 20 and not rig.busy(m)]
    if not models:
        return None
    r = rig.random
    model = r.choice(models)
    start = r.randrange(rig.size_of(model) >> 21) << 21

    def put(offset: int, length: int) -> Op:
        return rig.start("write", object_id=model.id, offset_bytes=offset, data=rig.oracle.make_data(model.id, offset, length))

    if r.random() < 0.5:
        rig.settle(put(start, 2 << 20))
    if len(rig.oracle.objects) < rig.config.max_objects:
        rig.do("snapshot", pairs=[(model.id, f"{model.name[0].value}@{rig.new_name()}")])
    for block in r.sample(range(0, 512, 8), r.choice((30, 40, 50))):
        put(start + block * BLOCK, r.choice((4, 5, 6)) * BLOCK)
        if len(rig.tokens) > 8:
            rig.step()
    return rig.start("read", object_id=model.id, offset_bytes=start, length_bytes=1 << 20)


def stream(rig: Rig) -> Op | None:
    """A long write over whatever lies there."""
    models = [m for m in rig.volumes() if rig.size_of(m) >= 2 << 20]
    if not models:
        return None
    r = rig.random
    model = r.choice(models)
    length = r.choice((64 << 10, 128 << 10, 256 << 10, 1 << 20, (64 << 10) + 512 * r.randrange(64)))
    unit = r.choice((length, BLOCK, SECTOR)) // model.block_bytes * model.block_bytes or model.block_bytes
    length = length // model.block_bytes * model.block_bytes
    offset = r.randrange((rig.size_of(model) - length) // unit + 1) * unit
    return rig.start("write", object_id=model.id, offset_bytes=offset, fua=r.random() < rig.config.fua,
                     data=rig.oracle.make_data(model.id, offset, length))


def move(rig: Rig) -> Op | None:
    """What lies scattered in a region is moved, while others write there."""
    models = [m for m in rig.volumes() if rig.size_of(m) >= 2 << 20]
    if not models:
        return None
    model = rig.random.choice(models)
    start = rig.random.randrange(rig.size_of(model) >> 21) << 21
    return rig.start("move", object_id=model.id, offset_bytes=start, length_bytes=2 << 20)


VAST: dict[Action, int] = {create: 4, write: 30, write_run: 5, write_atomic: 6, unmap: 10, read: 6, flush: 6, checkpoint: 4,
                           compare_and_write: 2, snapshot: 6, clone: 5, delete: 5, revert: 5, resize: 14, share: 3, idle: 4}
SLOW: dict[Action, int] = {**ACTIONS, idle: 30}
THIN: dict[Action, int] = {**ACTIONS, thin_out: 8, idle: 2}
FULL: dict[Action, int] = {create: 3, write: 50, unmap: 6, flush: 5, checkpoint: 3, delete: 3, snapshot: 3, clone: 1, grow: 2,
                           write_atomic: 6, set_properties: 8, compare_and_write: 3, idle: 6, resize: 2, kv: 2, read: 4}
MIXED: dict[Action, int] = {create: 1, write: 20, write_atomic: 20, unmap: 16, compare_and_write: 16, share: 24, snapshot: 5,
                            clone: 6, delete: 4, flush: 4, read: 8, revert: 3, idle: 2}
GROUPS: dict[Action, int] = {create: 3, write: 40, write_atomic: 10, snapshot: 14, revert: 16, delete: 8, flush: 3, read: 3,
                             unmap: 4, clone: 2, resize: 2, idle: 2}
STREAMS: dict[Action, int] = {create: 1, scatter: 10, move: 14, stream: 20, write: 20, read: 8, unmap: 3, snapshot: 4, delete: 5,
                              clone: 2, revert: 2, share: 2, write_atomic: 3, flush: 4, checkpoint: 2, idle: 2}
ORDERED: dict[Action, int] = {create: 1, thicken: 30, move: 4, stream: 3, write: 40, read: 14, unmap: 2, snapshot: 2, delete: 8,
                              clone: 1, revert: 1, share: 1, write_atomic: 2, flush: 4, checkpoint: 2}
