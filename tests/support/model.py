"""A pool beside a plain Python model of it: one operation at a time, compared after kills and reopenings."""

from __future__ import annotations

import random

from core.errors import PoolError
from core.pool.engine import Pool
from tests.support.memdevice import MemoryDevice

MIB = 1 << 20


class Model:
    """Objects as bytearrays. `live` does seeded random operations and fails with the seed when the pool disagrees."""

    def __init__(self, seed: int, size_bytes: int = 6 * MIB) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.device = MemoryDevice(96 * MIB)
        Pool.create(self.device, name="model", journal_blocks=self.random.choice([0, 128]),
                    area_blocks=self.random.choice([0, 512]))
        self.content: dict[int, bytearray] = {}
        self.names: dict[int, str] = {}
        self.snapshots: dict[int, int] = {}     # what each was taken of
        self.keys: dict[str, bytes] = {}
        self.made = 0
        self.size_bytes = size_bytes
        self.open()

    def open(self) -> None:
        self.pool = Pool(self.device, cache_bytes=self.random.choice([MIB, 256 * MIB]))

    def fresh(self, prefix: str) -> str:
        self.made += 1
        return f"{prefix}{self.made}"

    def volume(self) -> int:
        """A writable object, made when there is none."""
        writable = [i for i in self.content if i not in self.snapshots]
        if not writable:
            name = self.fresh("v")
            made: int = self.pool.call("create", name=name, size_bytes=self.size_bytes)
            self.content[made], self.names[made] = bytearray(self.size_bytes), name
            return made
        return self.random.choice(writable)

    def write(self) -> None:
        v = self.volume()
        grain = self.random.choice([512, 4096, 4096])
        length = min(self.random.choice([1, 1, 1, 2, 8, 64, 512]) * grain, len(self.content[v]))
        at = self.random.randrange(0, (len(self.content[v]) - length) // grain + 1) * grain
        data = bytes([self.random.randrange(1, 256)]) * length
        self.pool.call("write", object_id=v, offset_bytes=at, data=data, fua=self.random.random() < 0.1)
        self.content[v][at : at + length] = data

    def unmap(self) -> None:
        v = self.volume()
        length = min(self.random.choice([512, 4096, 65536, 2 * MIB, 3 * MIB]), len(self.content[v]))
        at = self.random.randrange(0, (len(self.content[v]) - length) // 512 + 1) * 512
        self.pool.call("unmap", object_id=v, offset_bytes=at, length_bytes=length, keep=self.random.random() < 0.1)
        self.content[v][at : at + length] = bytes(length)

    def snapshot(self) -> None:
        v = self.volume()
        name = f"{self.names[v]}@{self.fresh('s')}"
        made = self.pool.call("snapshot", pairs=[(v, name)])[0]
        self.content[made], self.names[made] = bytearray(self.content[v]), name
        self.snapshots[made] = v

    def clone(self) -> None:
        source = self.random.choice(list(self.content) or [self.volume()])
        name = self.fresh("c")
        made = self.pool.call("clone", source_id=source, name=name)
        self.content[made], self.names[made] = bytearray(self.content[source]), name

    def delete(self) -> None:
        if self.content:
            victim = self.random.choice(list(self.content))
            self.pool.call("delete", object_id=victim)
            del self.content[victim]
            self.snapshots.pop(victim, None)

    def revert(self) -> None:
        own = [(v, s) for s, v in self.snapshots.items() if v in self.content]
        if own:
            v, s = self.random.choice(own)
            self.pool.call("revert", volume_id=v, snapshot_id=s)
            self.content[v] = bytearray(self.content[s])

    def resize(self) -> None:
        v = self.volume()
        size = self.random.choice([4, 6, 8]) * MIB + self.random.choice([0, 4096])
        self.pool.call("resize", object_id=v, size_bytes=size)
        self.content[v] = self.content[v][:size].ljust(size, b"\0")

    def key(self) -> None:
        name = f"k{self.random.randrange(5)}"
        value = None if self.random.random() < 0.3 else bytes([self.random.randrange(256)]) * self.random.randrange(2000)
        self.pool.call("kv", changes={name: value})
        self.keys.pop(name, None)
        if value is not None:
            self.keys[name] = value

    def share(self) -> None:
        v = self.volume()
        source = self.random.choice(list(self.content))
        length = min(self.random.choice([1, 5, 600]) * 4096, len(self.content[v]), len(self.content[source])) // 4096 * 4096
        a = self.random.randrange(0, (len(self.content[source]) - length) // 4096 + 1) * 4096
        b = self.random.randrange(0, (len(self.content[v]) - length) // 4096 + 1) * 4096
        if source != v or abs(a - b) >= length:
            self.pool.call("share", dst_id=v, dst_offset_bytes=b, src_id=source, src_offset_bytes=a, length_bytes=length)
            self.content[v][b : b + length] = self.content[source][a : a + length]

    def compare_and_write(self) -> None:
        v = self.volume()
        at = self.random.randrange(0, len(self.content[v]) // 512) * 512
        expected = bytearray(self.content[v][at : at + 512])
        wrong = self.random.randrange(512) if self.random.random() < 0.4 else None
        if wrong is not None:
            expected[wrong] ^= 0xFF
        outcome = ("ok", 0)
        try:
            self.pool.call("compare_and_write", object_id=v, offset_bytes=at, expected=bytes(expected), data=b"w" * 512)
            self.content[v][at : at + 512] = b"w" * 512
        except PoolError as e:
            if e.code == "no_space":
                raise
            outcome = (e.code, e.value)
        assert outcome == (("ok", 0) if wrong is None else ("miscompare", wrong)), self.seed

    def reopen(self) -> None:
        if self.random.random() < 0.3:
            self.pool.close()
        else:
            self.pool.abandon()       # everything acknowledged is in the device, synced or not
        self.open()
        assert self.pool.kv() == self.keys, self.seed
        assert {o.id for o in self.pool.objects()} == set(self.content), self.seed
        self.verify()

    def verify(self) -> None:
        for number, content in self.content.items():
            got = self.pool.call("read", object_id=number, offset_bytes=0, length_bytes=len(content))
            assert got == bytes(content), f"seed {self.seed}: object {number} differs"

    def make_room(self) -> None:
        """The pool is full: drop snapshots, and take over what the refused write may have left."""
        for number in list(self.content)[:4]:
            self.pool.call("delete", object_id=number)
            del self.content[number]
            self.snapshots.discard(number)
        self.pool.drain()
        for number, content in self.content.items():
            content[:] = self.pool.call("read", object_id=number, offset_bytes=0, length_bytes=len(content))

    def live(self, steps: int) -> None:
        acts = [(45, self.write), (10, self.unmap), (6, self.snapshot), (4, self.clone), (6, self.delete), (3, self.revert),
                (2, self.resize), (3, lambda: self.pool.call("flush")), (2, lambda: self.pool.call("checkpoint")),
                (3, self.key), (3, self.share), (3, lambda: self.pool.drain()), (3, self.compare_and_write), (3, self.reopen)]
        for _ in range(steps):
            act = self.random.choices([a for _, a in acts], [w for w, _ in acts])[0]
            try:
                act()
            except PoolError as e:
                if e.code != "no_space":
                    raise
                self.make_room()
        self.verify()
        for number in list(self.content):
            self.pool.call("delete", object_id=number)
        for _ in range(3):
            self.pool.drain()
            self.pool.call("checkpoint")
        self.pool.drain()
        stats = self.pool.stats()
        assert stats["pending_items"] == 0, self.seed
        fixed = 2560 + stats["journal_blocks"]
        assert stats["free_bytes"] >= stats["size_bytes"] - (fixed + 2 * 1024 + 512 + 80) * 4096, self.seed
        self.pool.close()
