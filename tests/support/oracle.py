"""What a crash may leave: for every sector of every object the set of values that the durability promise allows.

Plain Python, no knowledge of the format. Time is a counter that rises with every start and completion of an operation,
so "this write was acknowledged before that one began" is a comparison, and concurrency needs no special case:

- a version is *superseded* by another that began after it ended, if that other one was acknowledged;
- after a process kill, any version not superseded may be read (exactly the acknowledged one, or one in flight);
- after a power cut only *durable* versions supersede: those acknowledged before a flush began that was acknowledged,
  those of FUA writes, and those of administrative operations;
- administrative operations are atomic: all of their effects or none, and once acknowledged they are durable;
- an atomic write is there wholly or not at all: in what a crash leaves, in a snapshot, and in what a read sees.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Any

from tests.support.content import Content
from tests.support.history import (
    ADMIN,
    FOREVER,
    MUTATING,
    SECTOR,
    UNCERTAIN,
    ZERO_BLOCK,
    ZERO_SECTOR,
    ZERO_VERSION,
    ObjectModel,
    Op,
    Superseding,
    Version,
    Violation,
    Whole,
    at_instant,
    candidates,
    show,
    stamp,
    unstamp,
)
from tests.support.key_oracle import keys_changed, keys_left


class Oracle:
    """The promise, kept beside the pool: `begin` and `finish` bracket operations, `crash` and `reconcile` crashes."""

    def __init__(self) -> None:
        self.clock = 0
        self.flushed = -1                       # the latest start of a flush that was acknowledged
        self.objects: dict[int, ObjectModel] = {}
        self.grave: dict[int, ObjectModel] = {}      # deleted, but perhaps the source of something in flight
        self.inflight: list[Op] = []
        self.atomics: list[Op] = []             # atomic writes that a crash may still undo, or a read meet half way
        self.limbo: list[Op] = []               # administrative operations that failed and may have happened
        self.kv: dict[str, bytes] = {}
        self.used_ids: set[int] = set()
        self.values = 0
        self.book: dict[int, tuple[int, int]] = {}   # value -> (object id, lba) it was written to
        self.lost_power = False
        self.crashed = False
        self.sync_failed = False                # nothing unsynced may be trusted, even though the machine lived on

    # -- time and durability -----------------------------------------------------------------------------------------

    def tick(self) -> int:
        self.clock += 1
        return self.clock

    def is_durable(self, op: Op) -> bool:
        return op.ok and (op.fua or op.end < self.flushed)

    def _supersedes(self, power: bool) -> Superseding:
        return self.is_durable if power else (lambda op: op.ok)

    # -- starting ----------------------------------------------------------------------------------------------------

    def begin(self, kind: str, **args: Any) -> Op:
        """Note that an operation starts now. Arguments are those of `Pool.start`, object ids included."""
        op = Op(kind, self.tick(), fua=bool(args.get("fua")) or kind in ADMIN, args=args)
        self.inflight.append(op)
        if kind in ("write", "write_atomic"):
            if kind == "write_atomic":
                self._watch(op)
            model = self.objects[args["object_id"]]
            data, lba = args["data"], args["offset_bytes"] // SECTOR
            for i in range(len(data) // SECTOR):
                self._add(model, lba + i, unstamp(data[i * SECTOR:(i + 1) * SECTOR]), op)
        elif kind == "unmap":
            for offset_bytes, length_bytes in ((args["offset_bytes"], args["length_bytes"]), *args.get("further", ())):
                self._add_zeros(self.objects[args["object_id"]], offset_bytes, length_bytes, op)
        elif kind == "compare_and_write":
            self._begin_compare(op)
        elif kind == "share":
            self._begin_share(op)
        elif kind == "revert":
            self._begin_revert(op)
        elif kind == "resize":
            model = self.objects[args["object_id"]]
            model.size.append(Version(args["size_bytes"], op))
            self._add_zeros(model, args["size_bytes"], FOREVER, op)
        elif kind == "rename":
            self.objects[args["object_id"]].name.append(Version(args["name"], op))
        elif kind == "delete":
            self.objects[args["object_id"]].deleting = op
        elif kind == "publish":
            self._begin_publish(op)
        return op

    def _watch(self, op: Op) -> None:
        """Follow an atomic write until it is durable and nothing began before it ended."""
        oldest = min(other.start for other in self.inflight)
        self.atomics = [old for old in self.atomics if not (self.is_durable(old) and old.end < oldest)]
        self.atomics.append(op)

    def _wholes(self, model: ObjectModel) -> list[Whole]:
        """The atomic writes to an object that may be there or not, and how each sector tells."""
        found = []
        for op in self.atomics:
            if op.args["object_id"] != model.id:
                continue
            first, data = op.args["offset_bytes"] // SECTOR, op.args["data"]
            sectors = {}
            for lba in range(first, first + len(data) // SECTOR):
                others = [v for v in model.sectors.get(lba, ()) if v.op is not op]
                older = {v.value for v in others if v.op.end < op.start} - {v.value for v in others if v.op.end > op.start}
                at = (lba - first) * SECTOR
                sectors[lba] = (unstamp(data[at:at + SECTOR]), frozenset(older))
            found.append(Whole(op, sectors))
        return found

    def _check_whole(self, where: str, wholes: Iterable[Whole], value: Callable[[int], int | None]) -> None:
        """Violation if what was seen (None: not seen) shows an atomic write in one sector and its absence in another."""
        for whole in wholes:
            done = absent = None
            for lba, (mine, older) in whole.sectors.items():
                seen = value(lba)
                if seen == mine:
                    done = lba
                elif seen is not None and seen in older:
                    absent = lba
            if done is not None and absent is not None:
                raise Violation(f"{where}: the atomic write {whole.op} is there in sector {done} and not in {absent}")

    def _add(self, model: ObjectModel, lba: int, value: int, op: Op) -> None:
        history = model.sectors.get(lba)
        if history is None:
            history = model.sectors[lba] = [ZERO_VERSION]
            for other in self.inflight:
                if other is not op and other.zeroes(model.id, lba, lba + 1):
                    history.append(Version(0, other))
                    other.touched.append((model, lba))
        elif len(history) > 8:
            self._prune(history)
        history.append(Version(value, op))
        op.touched.append((model, lba))
        for share in [other for other in self.inflight if other.kind == "share" and other is not op]:
            self._add_shared(model, lba, value, share)

    def _add_shared(self, model: ObjectModel, lba: int, value: int, share: Op) -> None:
        """What a sector may become while it is copied by reference may be what is copied."""
        a = share.args
        at = lba - a["src_offset_bytes"] // SECTOR
        target = self.objects.get(a["dst_id"])
        if a["src_id"] != model.id or target is None or not 0 <= at < a["length_bytes"] // SECTOR:
            return
        at += a["dst_offset_bytes"] // SECTOR
        if at not in target.sectors:
            self._add(target, at, 0, share)               # it may have been a hole still
        if all(v.op is not share or v.value != value for v in target.sectors.get(at, ())):
            self._add(target, at, value, share)

    def _prune(self, history: list[Version]) -> None:
        """Drop versions that no crash and no operation in flight can bring back."""
        oldest = min((op.start for op in self.inflight), default=FOREVER)
        keep = candidates(history, lambda op: self.is_durable(op) and op.end < oldest)
        if len(keep) < len(history):
            history[:] = keep

    def _add_zeros(self, model: ObjectModel, offset_bytes: int, length_bytes: int, op: Op) -> None:
        first, last = offset_bytes // SECTOR, (offset_bytes + length_bytes) // SECTOR
        for lba in [lba for lba in model.sectors if first <= lba < last]:
            self._add(model, lba, 0, op)
        op.zeros.append((model.id, first, last))

    def current(self, model: ObjectModel, lba: int) -> int | None:
        """The one value a sector can hold now; None while it is open."""
        found = {v.value for v in candidates(model.sectors.get(lba, [ZERO_VERSION]), lambda op: op.ok)}
        return found.pop() if len(found) == 1 else None

    def settled(self, model: ObjectModel, offset_bytes: int, length_bytes: int, *, besides: Op | None = None) -> bool:
        """No sector of a range is open and nothing is in flight on it."""
        first, last = offset_bytes // SECTOR, (offset_bytes + length_bytes) // SECTOR
        for op in self.inflight:
            touched = op.zeroes(model.id, first, last) or any(m is model and first <= lba < last for m, lba in op.touched)
            if touched and op is not besides:
                return False
        return all(self.current(model, lba) is not None for lba in model.sectors if first <= lba < last)

    def _begin_compare(self, op: Op) -> None:
        model = self.objects[op.args["object_id"]]
        lba, expected, data = op.args["offset_bytes"] // SECTOR, op.args["expected"], op.args["data"]
        op.args["open"] = not self.settled(model, op.args["offset_bytes"], len(data), besides=op)
        op.args["differs_at"] = None              # open: what it will meet is not known, and is judged by serial order
        if not op.args["open"]:
            now = b"".join(self.bytes_of(model, lba + i) for i in range(len(data) // SECTOR))
            op.args["differs_at"] = next((i for i in range(len(now)) if now[i] != expected[i]), None)
        if op.args["differs_at"] is None:
            for i in range(len(data) // SECTOR):
                self._add(model, lba + i, unstamp(data[i * SECTOR:(i + 1) * SECTOR]), op)

    def bytes_of(self, model: ObjectModel, lba: int) -> bytes:
        """The bytes of a settled sector."""
        value = self.current(model, lba)
        assert value is not None, "the caller checks settled()"
        return stamp(value, *self.book[value]) if value else ZERO_SECTOR

    def _begin_share(self, op: Op) -> None:
        a = op.args
        target, source = self.objects[a["dst_id"]], self.objects[a["src_id"]]
        first, from_ = a["dst_offset_bytes"] // SECTOR, a["src_offset_bytes"] // SECTOR
        blocks = a["length_bytes"] // SECTOR
        known = {lba - from_ for lba in source.sectors if from_ <= lba < from_ + blocks}
        known |= {lba - first for lba in target.sectors if first <= lba < first + blocks}
        for i in sorted(known):
            history = source.sectors.get(from_ + i, [ZERO_VERSION])
            for value in sorted({v.value for v in candidates(history, lambda other: other.ok)}):
                self._add(target, first + i, value, op)
        op.zeros = [(target.id, first, first + blocks)]       # where neither knows anything

    def _begin_publish(self, op: Op) -> None:
        """The staged object goes, a snapshot of what it held comes, and the volume may become that, too."""
        item = op.publication
        staged, volume, base = self.objects[item["staged_id"]], self.objects[item["volume_id"]], self.objects[item["base_id"]]
        staged.deleting = op
        op.args["written"] = any(
            None not in (seen := {self.current(model, lba) for model in (volume, base)}) and len(seen) > 1
            for lba in set(volume.sectors) | set(base.sectors))
        self._become(op, volume, staged)

    def _begin_revert(self, op: Op) -> None:
        self._become(op, self.objects[op.args["volume_id"]], self.objects[op.args["snapshot_id"]])

    def _become(self, op: Op, volume: ObjectModel, snapshot: ObjectModel) -> None:
        for lba in sorted(set(volume.sectors) | set(snapshot.sectors)):
            value = self.current(snapshot, lba)
            assert value is not None, "the caller pins a snapshot before it reverts to it"
            self._add(volume, lba, value, op)
        op.zeros = [(volume.id, 0, FOREVER)]
        volume.size.append(Version(snapshot.current_size(), op))

    def _disturbed(self, op: Op) -> bool:
        """Something that began after a comparison may have changed what it compared."""
        model = self.objects.get(op.args["object_id"])
        first = op.args["offset_bytes"] // SECTOR
        last = first + len(op.args["data"]) // SECTOR
        return (model is None or any(other.start > op.start and other.zeroes(model.id, first, last)
                                     for other in self.inflight)
                or any(v.op.start > op.start for lba in range(first, last) for v in model.sectors.get(lba, ())))

    def saw(self, model: ObjectModel, lba: int, value: int) -> None:
        """Nothing was in flight, and this is what an open sector held."""
        if self.current(model, lba) is None:
            now = self.tick()
            model.sectors[lba].append(Version(value, Op("seen", now, now, True)))

    def make_data(self, object_id: int, offset_bytes: int, length_bytes: int) -> bytes:
        """Fresh stamped data for a write."""
        parts = []
        for lba in range(offset_bytes // SECTOR, offset_bytes // SECTOR + length_bytes // SECTOR):
            self.values += 1
            self.book[self.values] = (object_id, lba)
            parts.append(stamp(self.values, object_id, lba))
        return b"".join(parts)

    # -- finishing ---------------------------------------------------------------------------------------------------

    def finish(self, op: Op, code: str, value: Any = None) -> None:
        """Note that an operation was acknowledged, or failed with `code`."""
        self.inflight.remove(op)
        now = self.tick()
        if code == "ok":
            self._acknowledge(op, value, now)
        elif op.kind == "compare_and_write" and code == "miscompare":
            op.end = now
            if op.args["differs_at"] != value and not op.args["open"] and not self._disturbed(op):
                raise Violation(f"miscompare at {value}, expected {op.args['differs_at']}")
            self._undo(op)
        elif code in UNCERTAIN - {"no_space", "no_memory"} and op.kind in ADMIN:
            op.uncertain = True
            self.limbo.append(op)
        elif (code in UNCERTAIN or code in ("gone", "range")) and op.kind in MUTATING:
            # What deleted its object may be undone by a crash; a shrink may come when a part of it is done already.
            op.end, op.uncertain = now, True
            if op.kind == "write_atomic" and code in ("no_space", "no_memory", "range"):
                self._undo(op)
        else:
            op.end = now
            self._undo(op)

    def _acknowledge(self, op: Op, value: Any, now: int) -> None:
        op.end, op.ok = now, True
        if op.kind == "flush":
            self.flushed = max(self.flushed, op.start)
        elif op.kind == "read":
            self._check_read(op, value)
        elif op.kind == "compare_and_write" and op.args["differs_at"] is not None and not self._disturbed(op):
            raise Violation(f"compare and write succeeded on different data (byte {op.args['differs_at']})")
        elif op.kind == "create":
            self._insert(op, value, "volume", op.args["name"], None)
        elif op.kind == "snapshot":
            for object_id, (source, name) in zip(value, op.args["pairs"], strict=True):
                self._insert(op, object_id, "snapshot", name, self._source(source))
        elif op.kind == "clone":
            self._insert(op, value, "clone", op.args["name"], self._source(op.args["source_id"]))
        elif op.kind == "revert" and op.args.get("safety_name"):
            self._insert(op, value, "snapshot", op.args["safety_name"], self._source(op.args["volume_id"]), skip=op)
        elif op.kind == "delete":
            self._bury(op.args["object_id"])
        elif op.kind == "kv":
            self._apply_kv(op.changes)
        elif op.kind == "publish":
            self._acknowledge_publish(op, value)

    def _acknowledge_publish(self, op: Op, value: list[tuple[int, int, bool]]) -> None:
        item, ((volume_id, snapshot_id, follows),) = op.publication, value
        self._insert(op, snapshot_id, "snapshot", item["snapshot_name"], self._source(item["staged_id"]))
        self._apply_kv(op.changes)
        self._bury(item["staged_id"])
        if follows and op.args["written"]:
            raise Violation(f"{self._source(volume_id).label()} was written to since its snapshot, and follows another")
        if not follows:
            self._undo(op)

    def _source(self, object_id: int) -> ObjectModel:
        return self.objects.get(object_id) or self.grave[object_id]

    def _bury(self, object_id: int) -> None:
        self.grave[object_id] = self.objects.pop(object_id)

    def _apply_kv(self, changes: dict[str, bytes | None]) -> None:
        self.kv = keys_changed(self.kv, changes)

    def _undo(self, op: Op) -> None:
        """It had no effect."""
        for model, lba in op.touched:
            history = model.sectors.get(lba)
            if history:
                history[:] = [v for v in history if v.op is not op]
        if op.kind in ("resize", "revert", "rename", "delete", "publish"):
            for model in (self.objects.get(op.changed_id or 0), self.objects.get(op.publication.get("staged_id", 0))):
                if model:
                    model.size[:] = [v for v in model.size if v.op is not op]
                    model.name[:] = [v for v in model.name if v.op is not op]
                    if model.deleting is op:
                        model.deleting = None

    def _insert(self, op: Op, object_id: int, kind: str, name: str, source: ObjectModel | None, *,
                skip: Op | None = None) -> ObjectModel:
        if object_id in self.used_ids:
            raise Violation(f"object id {object_id} was used before")
        self.used_ids.add(object_id)
        size = op.args.get("size_bytes", 0) if source is None else 0
        model = ObjectModel(object_id, kind, [Version(name, op)], [Version(size, op)],   # type: ignore[arg-type]
                            block_bytes=source.block_bytes if source else op.args.get("block_bytes", 512),
                            checksum=source.checksum if source else op.args.get("checksum", False))
        if source is not None:
            model.taken_by = op
            sizes = at_instant(source.size, op, skip, self.clock)
            model.size = [Version(v.value, op) for v in sizes]
            for lba, history in source.sectors.items():
                model.sectors[lba] = at_instant(history, op, skip, self.clock)
            model.wholes = [whole for whole in self._wholes(source) if whole.op.end > op.start]
        self.objects[object_id] = model
        return model

    def _check_read(self, op: Op, data: bytes) -> None:
        model = self.objects.get(op.args["object_id"])
        if model is None:
            return                              # deleted meanwhile
        first = op.args["offset_bytes"] // SECTOR
        if len(data) != op.args["length_bytes"]:
            raise Violation(f"read of {op.args['length_bytes']} bytes returned {len(data)}")
        seen: dict[int, int] = {}
        for i in range(len(data) // SECTOR):
            value = seen[first + i] = self._value(model, first + i, data[i * SECTOR:(i + 1) * SECTOR])
            history = model.sectors.get(first + i, [ZERO_VERSION])
            allowed = candidates(history, lambda other: other.ok and other.end < op.start)
            if value not in [v.value for v in allowed]:
                raise Violation(f"read of {model.label()} sector {first + i}: {value}, "
                                f"allowed {show(allowed)} of {show(history)}")
            if model.kind == "snapshot" and len(history) > 1:
                history[:] = [v for v in history if v.value == value]      # it never changes: what was seen is what it holds
        self._check_whole(f"read of {model.label()}", self._wholes(model), seen.get)

    def _value(self, model: ObjectModel, lba: int, sector: bytes) -> int:
        try:
            value = unstamp(sector)
            if value and self.book.get(value) != struct.unpack_from("<QQ", sector, 8):
                raise Violation(f"a stamp of another pool: {sector[:32].hex()}")
            return value
        except Violation as error:
            raise Violation(f"{model.label()} sector {lba}: {error}") from None

    # -- crashes -----------------------------------------------------------------------------------------------------

    def crash(self, *, power: bool) -> None:
        """Everything in flight ends here, unacknowledged. Several crashes may precede one reconcile."""
        self.crashed = True
        self.lost_power = self.lost_power or power
        now = self.tick()
        for op in self.inflight:
            op.end = now
        self.limbo.extend(op for op in self.inflight if op.kind in ADMIN)
        for op in self.limbo:
            op.end = min(op.end, now)
        self.inflight.clear()

    def reconcile(self, pool: Any) -> bool:
        """Compare an opened pool with what is allowed, and go on from what it holds. Nothing may be in flight.

        Returns whether an operation that was never acknowledged turned out to have happened.
        """
        power = self.lost_power or self.sync_failed   # after a failed sync, unsynced frames prove nothing
        self.tick()
        happened = self._reconcile_objects(pool)
        names: set[str] = set()
        instants = {model.taken_by for model in self.objects.values() if model.taken_by}
        for info in pool.objects():
            if info.name in names:
                raise Violation(f"two objects are called {info.name}")
            names.add(info.name)
            model = self.objects[info.id]
            content = Content(pool, info.id, info.size_bytes, {lba // 8 for lba in model.sectors})
            happened |= self._reconcile_content(model, info, content, power)
        for op in instants:
            if op.bounds[0] >= op.bounds[1]:
                raise Violation(f"{op.kind} {op.args} was not taken at one instant: {op.bounds}")
        happened |= self._reconcile_kv(pool.kv())
        leftovers = [op for op in self.limbo if op in happened]
        self.limbo.clear()
        if self.crashed:
            self.atomics.clear()                # each was found to be there or not
        self.lost_power = self.crashed = self.sync_failed = False
        return bool(leftovers)

    def _makers(self) -> dict[str, tuple[Op, int, str]]:
        """Names that unacknowledged operations may have created: name -> (operation, source id, kind)."""
        found = {}
        for op in self.limbo:
            if op.kind == "create":
                found[op.args["name"]] = (op, 0, "volume")
            elif op.kind == "snapshot":
                found.update({name: (op, source, "snapshot") for source, name in op.args["pairs"]})
            elif op.kind == "clone":
                found[op.args["name"]] = (op, op.args["source_id"], "clone")
            elif op.kind == "revert" and op.args.get("safety_name"):
                found[op.args["safety_name"]] = (op, op.args["volume_id"], "snapshot")
            elif op.kind == "publish":
                found[op.publication["snapshot_name"]] = (op, op.publication["staged_id"], "snapshot")
        return found

    def _reconcile_objects(self, pool: Any) -> set[Op]:
        infos = {info.id: info for info in pool.objects()}
        happened: set[Op] = set()
        before = dict(self.objects)
        sources = {**self.grave, **self.objects}
        for object_id, info in infos.items():
            if object_id in before:
                continue
            maker = self._makers().get(info.name)
            if maker is None or maker[2] != info.kind:
                raise Violation(f"object {info} was never made, or was deleted")
            op, source, kind = maker
            happened.add(op)
            self._insert(op, object_id, kind, info.name, sources.get(source) if source else None,
                         skip=op if op.kind == "revert" else None)
        for object_id, model in before.items():
            if object_id in infos:
                if infos[object_id].kind != model.kind or infos[object_id].block_bytes != model.block_bytes:
                    raise Violation(f"{model.label()} came back as {infos[object_id]}")
                model.deleting = None
            elif model.deleting is None:
                raise Violation(f"{model.label()} is gone")
            else:
                happened.add(model.deleting)
                self._bury(object_id)
        for op in happened:
            wanted = {"snapshot": [name for _, name in op.args.get("pairs", ())]}.get(op.kind, [])
            present = {info.name for info in infos.values()}
            if any(name not in present for name in wanted):
                raise Violation(f"a group snapshot came back in part: {wanted} of {present}")
        for op in self.limbo:
            if op.kind == "publish" and (op.publication["staged_id"] in infos) == (op in happened and self._is_made(op)):
                raise Violation(f"a publication came back in part: {op.publication}")
        return happened

    def _is_made(self, op: Op) -> bool:
        """Whether a publication has happened."""
        return any(model.name[-1].value == op.publication["snapshot_name"] for model in self.objects.values())

    def _reconcile_content(self, model: ObjectModel, info: Any, data: Content, power: bool) -> set[Op]:
        """Find which of the unacknowledged atomic operations on this object happened; Violation if no choice fits."""
        supersedes = self._supersedes(power or self.sync_failed)
        atomic = [op for op in self.limbo if model.id == op.changed_id and op.kind in ("revert", "resize", "rename", "publish")]
        error: Violation | None = None
        for bits in range(1 << len(atomic)):
            chosen = {op for i, op in enumerate(atomic) if bits >> i & 1}
            dropped = set(atomic) - chosen
            if any(op.kind == "revert" and op.args.get("safety_name") and (op in chosen) !=
                   any(o.name[-1].value == op.args["safety_name"] for o in self.objects.values()) for op in atomic):
                continue
            if any(op.kind == "publish" and op in chosen and (op.args["written"] or not self._is_made(op)) for op in atomic):
                continue                        # it does not follow, or there is nothing that it could follow
            try:
                values = self._match(model, info, data, lambda op, c=chosen: op in c or supersedes(op), dropped)
            except Violation as found:
                error = error or found
                continue
            self._check_whole(model.label(), [*self._wholes(model), *self._inherited(model)],
                              lambda lba, values=values: values.get(lba, 0) if lba * SECTOR < data.size_bytes else None)
            self._collapse(model, info, values, chosen, dropped, power)
            return chosen
        raise error or Violation(f"{model.label()}: the safety snapshot and the revert disagree")

    def _inherited(self, model: ObjectModel) -> list[Whole]:
        """The atomic writes that a snapshot or clone was made amid, as far as nothing was written over them since."""
        op = model.taken_by
        if op is None:
            return []
        return [whole._replace(sectors={lba: pair for lba, pair in whole.sectors.items()
                                        if all(v.op is op for v in model.sectors.get(lba, ()))}) for whole in model.wholes]

    def _match(self, model: ObjectModel, info: Any, data: Content, supersedes: Superseding, dropped: set[Op]
               ) -> dict[int, int]:
        """Every sector's value, each checked to be allowed."""
        for what, history, seen in (("name", model.name, info.name), ("size", model.size, info.size_bytes)):
            allowed = candidates([v for v in history if v.op not in dropped], supersedes)
            if seen not in [v.value for v in allowed]:
                raise Violation(f"{model.label()}: {what} {seen}, allowed {show(allowed)}")
        values: dict[int, int] = {}
        blocks = {lba // 8 for lba in model.sectors}
        for block, chunk in data.blocks():
            if block not in blocks:
                if chunk != ZERO_BLOCK[:len(chunk)]:
                    raise Violation(f"{model.label()} block {block} was never written and holds {chunk[:32].hex()}")
                continue
            for i in range(len(chunk) // SECTOR):
                lba = block * 8 + i
                value = self._value(model, lba, chunk[i * SECTOR:(i + 1) * SECTOR])
                history = [v for v in model.sectors.get(lba, [ZERO_VERSION]) if v.op not in dropped]
                allowed = candidates(history, supersedes)
                if value not in [v.value for v in allowed]:
                    raise Violation(f"{model.label()} sector {lba}: {value}, allowed {show(allowed)} "
                                    f"of {show(history)}")
                if value:
                    values[lba] = value
        return values

    def _collapse(self, model: ObjectModel, info: Any, values: dict[int, int], chosen: set[Op], dropped: set[Op],
                  power: bool) -> None:
        """Go on from what was seen: it is durable after a power cut, merely current after a process kill."""
        now = self.clock
        self._pin(model, values)
        seen = Op("seen", now, now, True, power)
        model.name = [Version(info.name, seen)]
        model.size = [Version(info.size_bytes, Op("seen", now, now, True, True))]
        if power or model.kind == "snapshot":
            model.sectors = {lba: [Version(value, seen)] for lba, value in values.items()}
            seen.fua = True
            return
        for lba, history in model.sectors.items():
            value = values.get(lba, 0)
            keep = [v for v in history if v.op not in dropped
                    and (v.op.ok or v.op in chosen or v.op.uncertain or v.value == value)]
            for v in keep:
                if v.op in chosen:
                    v.op.ok = True
            now_held = candidates(keep, lambda op: op.ok)
            if len(now_held) != 1 or not now_held[0].op.ok:
                keep.append(Version(value, seen))
            model.sectors[lba] = keep

    def _pin(self, model: ObjectModel, values: dict[int, int]) -> None:
        """Narrow the instant at which a snapshot was taken by what it turned out to hold."""
        op = model.taken_by
        if op is None:
            return
        model.taken_by = None
        for lba, history in model.sectors.items():
            matching = [v for v in history if v.op is op and v.value == values.get(lba, 0)]
            if len(matching) == 1 and all(v.op is op for v in history):
                op.bounds[0] = max(op.bounds[0], matching[0].low)
                op.bounds[1] = min(op.bounds[1], matching[0].high)

    def _reconcile_kv(self, seen: dict[str, bytes]) -> set[Op]:
        perhaps = [op for op in self.limbo if op.kind == "kv"]
        made = [op for op in self.limbo if op.kind == "publish" and self._is_made(op)]
        self.kv, ops = keys_left(self.kv, made, perhaps, seen)
        return ops
