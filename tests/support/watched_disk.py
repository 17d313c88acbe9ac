"""A simulated disk that knows the format's rules of order (docs/crash-tests.md) and fails a life as soon as a write breaks one.

A crash shows a missing barrier only when it comes at the right moment; here each write is judged by what the medium surely holds.
The pool performs some of its requests where nothing can be raised, so `broken` keeps what was found and `judge` raises it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from core import layout
from core.base.crc32c import crc32c
from tests.support.history import Violation
from tests.support.simdisk import PAGE_BYTES, SimDisk, Unsynced

PAGE_MAGIC = layout.PAGE_MAGIC.to_bytes(4, "little")
FRAME_MAGIC = layout.FRAME_MAGIC.to_bytes(4, "little")
COPIES = len(layout.SUPERBLOCK_SLOTS)
SB = {field.name: slice(field.offset, field.offset + field.size) for field in layout.SUPERBLOCK}
PG_GEN = slice(24, 32)
PG_KIND = 8
NEW_KINDS = {layout.PAGE_KINDS["node"], layout.PAGE_KINDS["catalog"]}     # pages that may have homes of their own each time
MAP = {name: slice(offset, offset + size) for offset, size, name in layout.RECORDS["map"]}
FR = {field.name: slice(field.offset, field.offset + field.size) for field in layout.FRAME_HEADER}


class Superblock(NamedTuple):
    """What of a superblock the rules are about."""

    sb_gen: int
    ckpt_gen: int
    journal_seq: int
    journal_pos: int
    flags: int
    journal: range
    area: range
    half: int


def superblock(raw: bytes) -> Superblock | None:
    """A copy that counts, or None."""
    if raw[:8] != layout.SUPERBLOCK_MAGIC or number(raw, SB["crc"]) != crc32c(raw[12:]):
        return None
    values = {name: number(raw, SB[name]) for name in ("sb_gen", "ckpt_gen", "journal_seq", "journal_pos", "flags",
                                                       "journal_start", "journal_blocks", "area_start", "area_blocks")}
    journal = range(values["journal_start"], values["journal_start"] + values["journal_blocks"])
    area = range(values["area_start"], values["area_start"] + 2 * values["area_blocks"])
    return Superblock(values["sb_gen"], values["ckpt_gen"], values["journal_seq"], values["journal_pos"], values["flags"],
                      journal, area, values["area_blocks"])


def number(raw: bytes, at: slice) -> int:
    return int.from_bytes(raw[at], "little")


def durable_nodes(disk: SimDisk, sure: Superblock) -> Iterator[int]:
    """Where the nodes and catalog pages lie that the durable superblock refers to."""
    raw = next(raw for raw in (disk.durable.get(copy, disk.fill) for copy in layout.SUPERBLOCK_SLOTS) if superblock(raw) == sure)
    images, header = number(raw, SB["area_images"]), layout.PAGE_HEADER_BYTES
    base = sure.area[0] + (sure.ckpt_gen & 1) * sure.half
    first = base + -(-images // layout.DIRECTORY_ENTRIES)
    held = {}
    for i in range(images):
        page, entry = divmod(i, layout.DIRECTORY_ENTRIES)
        at = header + entry * 16
        held[number(disk.durable[base + page], slice(at, at + 8))] = disk.durable[first + i]

    def walk(block: int, level: int, *, catalog: bool) -> Iterator[int]:
        yield block
        if level == 0 and not catalog:
            return                            # a leaf: data
        page = held.get(block) or disk.durable.get(block, disk.fill)
        for at in range(header, header + 7 * layout.NODE_ENTRIES, 7):
            entry = int.from_bytes(page[at:at + 7], "little")
            if entry >> 48 & 2 and level:
                yield from walk(entry & (1 << 40) - 1, level - 1, catalog=catalog)
            elif entry >> 48 & 2:
                yield entry & (1 << 40) - 1
                yield from objects(entry & (1 << 40) - 1)

    def objects(block: int) -> Iterator[int]:
        page = held.get(block) or disk.durable.get(block, disk.fill)
        for at in range(header, header + 7 * 512, 512):
            root = int.from_bytes(page[at + 24:at + 32], "little")
            if page[at] == 1 and root:
                yield from walk(root, page[at + 3], catalog=False)

    if root := number(raw, SB["catalog_root"]):
        yield from walk(root, number(raw, SB["catalog_level"]), catalog=True)


def frames_of(raw: bytes) -> Iterator[bytes]:
    """The whole frames of a frame's blocks: the one that begins there, and those behind it, each where the last one ends."""
    at, expect = 0, number(raw, FR["seq"])
    while raw[at:at + 4] == FRAME_MAGIC and number(raw[at:], FR["seq"]) == expect:
        frame = raw[at:at + number(raw[at:], FR["length"])]
        if number(frame, FR["crc"]) != crc32c(frame[8:]):
            return
        yield frame
        at, expect = at + len(frame), expect + 1


class WatchedDisk(SimDisk):
    """A SimDisk for one pool. `broken`: the first write that a power cut might turn into a loss."""

    began: tuple[int, int] = (-1, 0)          # checkpoint, and how much was written before its first page of the area
    broken = ""
    nodes: tuple[int, frozenset[int]] = (-1, frozenset())       # of the map that this checkpoint published
    submitted: int | None = None              # set by the harness: what had been performed when the next write was submitted

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.frames: dict[int, tuple[int, frozenset[int]]] = {}      # by sequence number: its write, those of its data not synced
        self.markers: dict[int, int] = {}     # writes of frames not synced, and what they call hard
        self.hard_upto = 0                    # what durable frames call hard
        self.recorded = 0                     # the newest frame with records
        self.maps: dict[int, list[tuple[int, range, int]]] = {}   # by frame perhaps not hard: object, blocks, where they are

    def write(self, offset_bytes: int, data: bytes) -> None:
        if not self.dead and not self.broken and offset_bytes % PAGE_BYTES == 0 and len(data) % PAGE_BYTES == 0:
            self._judge(offset_bytes // PAGE_BYTES, bytes(data))
        self.submitted = None
        super().write(offset_bytes, data)

    def judge(self) -> None:
        """Violation: a write broke a rule."""
        if self.broken:
            raise Violation(self.broken)

    def sync(self) -> None:
        super().sync()
        unsure = {item.number for item in self.unsynced}
        self.hard_upto = max([self.hard_upto, *(hard for write, hard in self.markers.items() if write not in unsure)])
        self.markers = {write: hard for write, hard in self.markers.items() if write in unsure}

    def judge_answer(self, seq: int, written: int, what: str) -> None:
        """Violation: what waited for all records up to this frame to be hard is answered, and they are not; or data of the first
        `written` requests, all of them acknowledged before, is not durable."""
        sure = self.durable_superblock()
        if sure is None:
            return
        if seq > self.hard_upto and seq >= sure.journal_seq:
            raise Violation(f"{what} is answered before journal frame {seq} is hard")
        for item in self.unsynced:
            if (item.number <= written and item.data and item.data[:4] != PAGE_MAGIC and self._outside(item, sure)
                    and item.offset_bytes // PAGE_BYTES not in sure.area):
                raise Violation(f"{what} is answered before block {item.offset_bytes // PAGE_BYTES} is durable")

    def _forget(self) -> None:
        self.frames.clear()
        self.markers.clear()
        self.hard_upto = self.recorded = 0
        self.maps.clear()

    def fork(self, seed: int | None = None) -> SimDisk:
        self.judge()
        return super().fork(seed)

    def power_cut(self, mode: str = "") -> None:
        self.judge()
        self._forget()
        super().power_cut(mode)

    def process_kill(self) -> None:
        self.judge()
        self._forget()
        super().process_kill()

    def _break(self, text: str) -> None:
        self.broken = self.broken or text

    def durable_superblock(self) -> Superblock | None:
        """What a power cut could not take away, as recovery would choose."""
        copies = [superblock(self.durable.get(copy, self.fill)) for copy in layout.SUPERBLOCK_SLOTS]
        return max((copy for copy in copies if copy), default=None)

    def _judge(self, block: int, data: bytes) -> None:
        if block < COPIES and any(item.offset_bytes // PAGE_BYTES == 1 - block for item in self.unsynced):
            self._break("both copies of the superblock are written and not synced")
        sure = self.durable_superblock()
        if sure is None:
            return                            # a pool that is being made
        if block < COPIES:
            self._judge_superblock(block, data, sure)
        elif block in sure.journal:
            self._judge_frame(block, data, sure)
        elif block in sure.area:
            self._judge_area(block, data, sure)
        else:
            for at in range(0, len(data), PAGE_BYTES):
                if data[at:at + 4] == PAGE_MAGIC and number(data, slice(at + 24, at + 32)) > sure.ckpt_gen:
                    self._judge_home(block + at // PAGE_BYTES, data[at + PG_KIND], sure)

    def _judge_home(self, block: int, kind: int, sure: Superblock) -> None:
        """A page comes home before the superblock that means it is durable: a new node may, where the durable map has none."""
        if self.nodes[0] != sure.ckpt_gen:
            self.nodes = sure.ckpt_gen, frozenset(durable_nodes(self, sure))
        if kind not in NEW_KINDS or block in self.nodes[1]:
            self._break(f"page {block} goes home before the superblock that means it is durable")

    def _outside(self, item: Unsynced, sure: Superblock) -> bool:
        """Not a frame, nor a superblock."""
        block = item.offset_bytes // PAGE_BYTES
        return block >= COPIES and block not in sure.journal

    def _judge_superblock(self, block: int, data: bytes, sure: Superblock) -> None:
        new = superblock(data)
        if new is None:
            self._break(f"copy {block} of the superblock is written and not valid")
            return
        if new.ckpt_gen > sure.ckpt_gen:
            gen, before = self.began
            late = [item for item in self.unsynced if self._outside(item, sure)
                    and (item.offset_bytes // PAGE_BYTES in sure.area or (gen == new.ckpt_gen and item.number <= before))]
            if late:
                self._break(f"checkpoint {new.ckpt_gen} is published before block {late[0].offset_bytes // PAGE_BYTES} is sure")
        if new.flags & layout.SUPERBLOCK_FLAGS["clean"] and any(
                self._outside(item, sure) and item.data for item in self.unsynced):
            self._break("a pool is called clean before all of it is durable")

    def _judge_area(self, block: int, data: bytes, sure: Superblock) -> None:
        half = (block - sure.area[0]) // sure.half
        if half == sure.ckpt_gen & 1:
            self._break(f"the area half of checkpoint {sure.ckpt_gen} is written, and no other superblock is durable")
        gen = number(data, PG_GEN)
        if self.began[0] != gen:
            self.began = (gen, self.writes)

    def _judge_frame(self, block: int, data: bytes, sure: Superblock) -> None:
        joined = self._joined(block, data)
        for page in range(block, block + len(data) // PAGE_BYTES) if not joined else ():
            old = self.view.get(page, self.fill)
            if (old[:4] == FRAME_MAGIC and old[FR["uuid"]] == data[FR["uuid"]] and number(old, FR["seq"]) >= sure.journal_seq
                    and page in self._chain(sure)):
                self._break(f"journal frame {number(old, FR['seq'])} is overwritten, which recovery needs")
        for frame in frames_of(data[joined:]):
            if not number(frame, FR["flags"]) & layout.FRAME_FLAGS["pad"]:
                self._judge_claims(frame)

    def _joined(self, block: int, data: bytes) -> int:
        """How many bytes of frames that already lie in that block a write of one more frame repeats."""
        old = self.view.get(block, self.fill)
        there = sum(map(len, frames_of(old)))
        return there if 0 < there < len(data) == PAGE_BYTES and data[:there] == old[:there] else 0

    def _judge_claims(self, data: bytes) -> None:
        """What a frame says of those before it: that their data is durable (`hard_upto`), that they are (`synced_upto`)."""
        unsure = {item.number: item for item in self.unsynced}
        hard, synced = number(data, FR["hard_upto"]), number(data, FR["synced_upto"])
        for seq, (write, needed) in self.frames.items():
            if seq <= hard and not needed.isdisjoint(unsure):
                block = unsure[min(needed & unsure.keys())].offset_bytes // PAGE_BYTES
                self._break(f"journal frame {seq} is called hard before block {block} is sure")
            if seq <= synced and write in unsure:
                self._break(f"journal frame {seq} is called synced and is not")
        self.frames = {seq: known for seq, known in self.frames.items() if seq > min(hard, synced)}
        self.frames[number(data, FR["seq"])] = self.writes + 1, self._needed(data)
        self.markers[self.writes + 1] = hard
        if number(data, FR["records"]):
            self.recorded = max(self.recorded, number(data, FR["seq"]))
            self.maps[number(data, FR["seq"])] = list(self._maps(data))

    def _needed(self, data: bytes) -> frozenset[int]:
        """The writes that no sync has covered, submitted before this frame, to blocks that its records speak of."""
        last = self.writes if self.submitted is None else self.submitted
        items = [item for item in self.unsynced if item.data is not None and item.number <= last]
        found: set[int] = set()
        for _, blocks, pba in self._maps(data) if items else ():
            first, beyond = pba * PAGE_BYTES, (pba + len(blocks)) * PAGE_BYTES
            found.update(item.number for item in items
                         if item.offset_bytes < beyond and first < item.offset_bytes + item.length_bytes)
        return frozenset(found)

    def _maps(self, frame: bytes) -> Iterator[tuple[int, range, int]]:
        at, end = layout.FRAME_HEADER_BYTES, number(frame, FR["length"])
        while at < end:
            record = frame[at:at + max(number(frame, slice(at + 4, at + 8)), 8)]
            if record[0] == layout.RECORD_TYPES["map"]:
                lba, count = number(record, MAP["lba"]), number(record, MAP["count"])
                yield number(record, MAP["object"]), range(lba, lba + count), number(record, MAP["pba"])
            at += len(record)

    def judge_stable(self, object_id: int, block: int, sector: bytes, what: str) -> None:
        """Violation: what FUA wrote to a block of an object, a whole sector of it, might be lost by a power cut now."""
        for item in self.unsynced:
            if item.data is not None and sector in item.data and not any(sector in page for page in self.durable.values()):
                raise Violation(f"{what} is answered before its data at {item.offset_bytes // PAGE_BYTES} is on stable storage")
        sure = self.durable_superblock()
        if sure is None:
            return
        self.maps = {seq: rows for seq, rows in self.maps.items() if seq > self.hard_upto and seq >= sure.journal_seq}
        for seq, rows in self.maps.items():
            for owner, blocks, pba in rows:
                if owner == object_id and block in blocks and sector in self.view.get(pba + block - blocks[0], b""):
                    raise Violation(f"{what} is answered before journal frame {seq}, which says where its data is, is hard")

    def _chain(self, sure: Superblock) -> set[int]:
        """Where the unbroken row of frames begins that a recovery would find now: the blocks of their headers."""
        found: set[int] = set()
        at, expect = sure.journal_pos, sure.journal_seq
        while sure.journal[at] not in found:
            head = self.view.get(sure.journal[at], self.fill)
            blocks = -(-number(head, FR["length"]) // PAGE_BYTES)
            if not 0 < blocks <= len(sure.journal) - at:
                break
            raw = b"".join(self.view.get(sure.journal[at + i], self.fill) for i in range(blocks))
            frames = [frame for frame in frames_of(raw) if number(frame, FR["seq"]) >= expect]
            if not frames or number(frames[0], FR["seq"]) != expect:
                break
            found.add(sure.journal[at])
            if number(frames[0], FR["flags"]) & layout.FRAME_FLAGS["pad"]:
                at = 0
            else:
                at, expect = (at + blocks) % len(sure.journal), expect + len(frames)
        return found
