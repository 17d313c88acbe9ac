"""A pool in plain Python with the interface of core.pool.engine.Pool, for tests of the control plane alone."""

from __future__ import annotations

import os
import struct
import time
import uuid
from collections.abc import Sequence
from typing import Any, Literal

from core.pool.info import ObjectInfo

Kind = Literal["volume", "snapshot", "clone"]


class Refused(Exception):
    def __init__(self, code: str, value: int = 0) -> None:
        super().__init__(code)
        self.code = code
        self.value = value


class FakePool:
    """Every operation takes effect when it is started and is reported by the next `reap`, unless `hold` is set."""

    def __init__(self, name: str = "fake", size_bytes: int = 1 << 40) -> None:
        self.name = name
        self.uuid = self.identity = uuid.uuid4().bytes
        self.size_bytes = size_bytes
        self.read_only = False
        self.completion_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.hold = False
        self.fail: dict[str, str] = {}      # op -> code
        self.no_snapshot_of: dict[int, str] = {}    # object -> code
        self.started: list[tuple[str, dict[str, Any]]] = []
        self._objects: dict[int, ObjectInfo] = {}
        self._data: dict[int, bytearray] = {}
        self._kv: dict[str, bytes] = {}
        self._next_id = 1
        self._token = 0
        self._finished: list[tuple[int, str, Any]] = []

    def close(self) -> None:
        if self.completion_fd >= 0:
            os.close(self.completion_fd)
            self.completion_fd = -1

    def start(self, op: str, **args: Any) -> int:
        self._token += 1
        self.started.append((op, args))
        try:
            codes = [self.no_snapshot_of[number] for number, _ in args.get("pairs", ()) if number in self.no_snapshot_of]
            if op in self.fail or codes:
                raise Refused(self.fail.get(op) or codes[0])
            self._finished.append((self._token, "ok", getattr(self, "_op_" + op)(**args)))
        except Refused as error:
            self._finished.append((self._token, error.code, error.value))
        if not self.hold:
            os.eventfd_write(self.completion_fd, 1)
        return self._token

    def release(self) -> None:
        self.hold = False
        os.eventfd_write(self.completion_fd, 1)

    def reap(self) -> list[tuple[int, str, Any]]:
        if self.hold:
            return []
        try:
            os.eventfd_read(self.completion_fd)
        except BlockingIOError:
            pass
        finished, self._finished = self._finished, []
        return finished

    def objects(self) -> list[ObjectInfo]:
        return list(self._objects.values())

    def names(self) -> dict[str, int]:
        return {each.name: each.id for each in self._objects.values()}

    def provisioned(self, hidden: int) -> tuple[int, int]:
        shown = [each for each in self._objects.values() if not each.name.startswith(chr(hidden))]
        return len(shown), sum(each.size_bytes for each in shown if each.kind != "snapshot")

    def named(self, prefix: str) -> list[ObjectInfo]:
        return [each for each in self._objects.values() if each.name.startswith(prefix)]

    def lookup(self, name: str) -> ObjectInfo | None:
        return next((each for each in self._objects.values() if each.name == name), None)

    def info(self, object_id: int) -> ObjectInfo | None:
        return self._objects.get(object_id)

    def kv(self) -> dict[str, bytes]:
        return dict(self._kv)

    def damage(self) -> list[Any]:
        return []

    def failure(self) -> str:
        return ""

    def trace(self) -> list[Any]:
        return []

    def stats(self) -> dict[str, int]:
        used = sum(each.mapped_bytes for each in self._objects.values())
        return {"used_bytes": used, "free_bytes": self.size_bytes - used, "unswept": 0, "punched_bytes": 0, "punch_runs": 0,
                "moved_bytes": 0, "copied_bytes": 0, "unordered_regions": 0}

    def order(self, on: bool) -> None:
        pass

    # -- operations --------------------------------------------------------------------------------------------
    def _get(self, object_id: int) -> ObjectInfo:
        if object_id not in self._objects:
            raise Refused("gone")
        return self._objects[object_id]

    def _make(self, name: str, kind: Kind, size_bytes: int, block_bytes: int = 512, origin: ObjectInfo | None = None,
              **more: Any) -> int:
        if self.lookup(name) is not None:
            raise Refused("exists")
        object_id = self._next_id
        self._next_id += 1
        self._data[object_id] = bytearray(self._data[origin.id]) if origin else bytearray()
        self._objects[object_id] = ObjectInfo(
            object_id, kind, name, size_bytes, block_bytes, len(self._data[object_id]), time.time(),
            origin.name if origin else "", origin.id if origin else 0, more.get("checksum", False),
            more.get("quota_bytes", 0), more.get("reserve_bytes", 0), uuid.uuid4().hex, more.get("props", b""),
            (more.get("physical_block_bytes", block_bytes) // block_bytes).bit_length() - 1)
        return object_id

    def _op_create(self, name: str, size_bytes: int, block_bytes: int = 512, **more: Any) -> int:
        return self._make(name, "volume", size_bytes, block_bytes, **more)

    def _op_snapshot(self, pairs: list[tuple[int, str]], keys: Any = None) -> list[int]:
        if any(self.lookup(name) for _, name in pairs):
            raise Refused("exists")
        made = [self._make(name, "snapshot", self._get(source).size_bytes, self._get(source).block_bytes, self._get(source))
                for source, name in pairs]
        self._op_kv({} if keys is None else keys(made))
        return made

    def _op_clone(self, source_id: int, name: str) -> int:
        source = self._get(source_id)
        return self._make(name, "clone", source.size_bytes, source.block_bytes, source)

    def _op_delete(self, object_id: int) -> None:
        self._get(object_id)
        del self._objects[object_id], self._data[object_id]

    def _op_revert(self, volume_id: int, snapshot_id: int, safety_name: str = "", keys: Any = None) -> int:
        volume, snapshot = self._get(volume_id), self._get(snapshot_id)
        if snapshot.origin_id != volume_id:
            raise Refused("invalid")
        safety = self._op_snapshot([(volume_id, safety_name)])[0] if safety_name else 0
        self._data[volume_id] = bytearray(self._data[snapshot_id])
        self._objects[volume_id] = volume._replace(size_bytes=snapshot.size_bytes)
        self._op_kv({} if keys is None else keys([safety] if safety else []))
        return safety

    def _op_resize(self, object_id: int, size_bytes: int) -> None:
        self._objects[object_id] = self._get(object_id)._replace(size_bytes=size_bytes)

    def _op_rename(self, object_id: int, name: str) -> None:
        if self.lookup(name) is not None:
            raise Refused("exists")
        self._objects[object_id] = self._get(object_id)._replace(name=name)

    def _op_set(self, object_id: int, **changes: Any) -> None:
        physical = changes.pop("physical_block_bytes", None)
        if physical is not None:
            changes["physical_exponent"] = (physical // self._get(object_id).block_bytes).bit_length() - 1
        self._objects[object_id] = self._get(object_id)._replace(
            **{key: value for key, value in changes.items() if value is not None})

    def _op_read(self, object_id: int, offset_bytes: int, length_bytes: int) -> bytes:
        self._get(object_id)
        data = self._data[object_id][offset_bytes:offset_bytes + length_bytes]
        return bytes(data) + bytes(length_bytes - len(data))

    def _op_write(self, object_id: int, offset_bytes: int, data: bytes, fua: bool = False) -> None:
        if self._get(object_id).kind == "snapshot":
            raise Refused("protected")
        kept = self._data[object_id]
        kept.extend(bytes(max(0, offset_bytes + len(data) - len(kept))))
        kept[offset_bytes:offset_bytes + len(data)] = data
        self._objects[object_id] = self._objects[object_id]._replace(mapped_bytes=len(kept))

    def _op_write_atomic(self, object_id: int, offset_bytes: int, data: bytes, fua: bool = False) -> None:
        self._op_write(object_id, offset_bytes, data)

    def _op_share(self, *, dst_id: int, dst_offset_bytes: int, src_id: int, src_offset_bytes: int, length_bytes: int) -> None:
        source = self._data[src_id][src_offset_bytes:src_offset_bytes + length_bytes]
        self._data[dst_id][dst_offset_bytes:dst_offset_bytes + length_bytes] = source

    def _op_unmap(self, object_id: int, offset_bytes: int, length_bytes: int, fua: bool = False, keep: bool = False,
                  further: Sequence[tuple[int, int]] = ()) -> None:
        for at, length in ((offset_bytes, length_bytes), *further):
            self._op_write(object_id, at, bytes(length))

    def _op_compare_and_write(self, object_id: int, offset_bytes: int, expected: bytes, data: bytes, fua: bool = False) -> None:
        have = self._op_read(object_id, offset_bytes, len(expected))
        if have != expected:
            raise Refused("miscompare", next(i for i, (a, b) in enumerate(zip(have, expected, strict=True)) if a != b))
        self._op_write(object_id, offset_bytes, data)

    def _op_extents(self, object_id: int, offset_bytes: int, length_bytes: int, limit: int) -> list[tuple[int, int, bool]]:
        end = offset_bytes + length_bytes
        mapped = min(end, len(self._data[self._get(object_id).id]))
        found = [(offset_bytes, mapped - offset_bytes, True)] if mapped > offset_bytes else []
        start = max(offset_bytes, mapped)
        return [*found, (start, end - start, False)] if end > start else found

    def _op_diff(self, a_id: int, b_id: int, offset_bytes: int, limit: int) -> list[tuple[int, int]]:
        a, b = self._data[self._get(a_id).id], self._data[self._get(b_id).id]
        top = max(len(a), len(b))
        a, b = a.ljust(top, b"\0"), b.ljust(top, b"\0")
        changed = [at for at in range(0, top, 4096) if at >= offset_bytes and a[at:at + 4096] != b[at:at + 4096]]
        return [(at, 4096) for at in changed[:limit]]

    def _op_runs(self, object_id: int, offset_bytes: int, length_bytes: int, limit: int, since_id: int | None = None) -> bytes:
        info = self._get(object_id)
        end = min(offset_bytes + length_bytes, info.size_bytes)
        if since_id is None:
            found = [(length, 0 if mapped else 3) for _, length, mapped in
                     self._op_extents(object_id, offset_bytes, end - offset_bytes, limit)]
            return b"".join(struct.pack("<II", *each) for each in found[:limit])
        changed = {at for at, _ in self._op_diff(since_id, object_id, offset_bytes, 1 << 30)}
        blocks = [(4096, int(at in changed or at >= self._get(since_id).size_bytes)) for at in range(offset_bytes, end, 4096)]
        return b"".join(struct.pack("<II", *each) for each in blocks[:limit])

    def _op_exclusive(self, object_ids: list[int]) -> dict[int, int]:
        return {number: self._objects[number].mapped_bytes for number in object_ids if number in self._objects}

    def _op_kv(self, changes: dict[str, bytes | None]) -> None:
        for key, value in changes.items():
            if value is None:
                self._kv.pop(key, None)
            else:
                self._kv[key] = value

    def _op_flush(self) -> None: ...

    def _op_scrub(self, **what: Any) -> tuple[None, int, list[tuple[int, int, int]]]:
        return None, 0, []

    def _op_checkpoint(self) -> None: ...

    def _op_grow(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
