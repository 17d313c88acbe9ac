"""What stands in a repository: names of its objects, pages, trees, manifests (docs/repositories.md, "The format").

Pure: bytes from values, values from bytes. What is read is validated. Integers are little-endian.
"""

from __future__ import annotations

import json
import struct
import zlib
from array import array
from collections.abc import Container, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from core.stream import runs as placed

FORMAT = 1
BLOCK_BYTES = 4096
FRAME_BLOCKS = 512              # of one frame at most
GROUP_BLOCKS = 32768            # that one page speaks of: 128 MiB
GROUP_BYTES = GROUP_BLOCKS * BLOCK_BYTES
PACK_BYTES = 64 << 20           # a pack is closed when it has so many
MAX_META_BYTES = 256 << 20      # of a tree or page, unpacked

CONFIG = "lunette.json"
PACKS, PAGES, TREES, SNAPSHOTS, WRITERS, MARKS, DAMAGE = "packs", "pages", "trees", "snapshots", "writers", "marks", "damage"

PAGE = struct.Struct("<4sHHIII")        # magic, version, 0, packs, frames, runs
PACK = struct.Struct("<32s")            # SHA-256 of the pack
FRAME = struct.Struct("<IQII16s")       # pack, offset_bytes, stored_bytes, blocks, digest
RUN = struct.Struct("<IIII")            # block of the group, blocks, frame, block of the frame
MAGIC = b"LNPG"


class Malformed(Exception):
    """Bytes are not what their name says."""


@dataclass(slots=True)
class Pack:
    """A pack; its id is known when it is closed."""

    id: str = ""
    size_bytes: int = 0


@dataclass(slots=True, eq=False)
class Frame:
    """Blocks that were stored together, and where."""

    pack: Pack
    offset_bytes: int
    stored_bytes: int
    blocks: int
    digest: bytes           # of what it holds


@dataclass(slots=True)
class Page:
    """Where the blocks of a group are: runs (docs/repositories.md, RUN) of frames by their numbers here.

    What no run covers is a hole. Frames that no run needs may be among them; they are not packed.
    """

    frames: list[Frame]
    runs: bytes

    def needed(self) -> list[Frame]:
        """The frames that runs refer to, in order."""
        return [frame for frame, blocks in zip(self.frames, self.used(), strict=True) if blocks]

    def packs(self) -> list[Pack]:
        """Of what it needs, each once."""
        return list({frame.pack.id: frame.pack for frame in self.needed()}.values())

    def covered(self, packs: Container[str]) -> list[Interval]:
        """The blocks that stand in any of these packs."""
        numbers = array("I", placed.covered(self.runs, bytes(frame.pack.id in packs for frame in self.frames)))
        return list(zip(numbers[0::2], numbers[1::2], strict=True))

    def used(self) -> array[int]:
        return array("I", placed.used_blocks(self.runs, len(self.frames)))


Interval = tuple[int, int]      # first block, and the one behind the last


def path(kind: str, name: str) -> str:
    """Where an object stands; packs and pages are spread over 256 prefixes."""
    return f"{kind}/{name[:2]}/{name}" if kind in (PACKS, PAGES) else f"{kind}/{name}"


def overlaid(page: Page, cuts: bytes, fresh: Sequence[tuple[bytes, Frame]]) -> Page:
    """A page after a change: `cuts` are intervals (core.stream.runs) of what changed, `fresh` the data there, runs by frame."""
    old = len(page.frames)
    new = b"".join(placed.renumbered(runs, struct.pack("<I", old + number)) for number, (runs, _) in enumerate(fresh))
    return Page([*page.frames, *(frame for _, frame in fresh)], placed.overlaid(page.runs, cuts, new))


def pack_page(page: Page) -> bytes:
    """The bytes of a page; the packs of its frames are closed."""
    packs: dict[str, int] = {}
    numbers, frames = array("I"), list[bytes]()
    needed = iter(page.needed())
    for blocks in page.used():
        numbers.append(len(frames))
        if blocks:
            each = next(needed)
            pack = packs.setdefault(each.pack.id, len(packs))
            frames.append(FRAME.pack(pack, each.offset_bytes, each.stored_bytes, each.blocks, each.digest))
    runs = placed.renumbered(page.runs, numbers.tobytes())
    return b"".join([PAGE.pack(MAGIC, FORMAT, 0, len(packs), len(frames), len(runs) // RUN.size),
                     *(bytes.fromhex(each) for each in packs), *frames, runs])


def unpack_page(raw: bytes, sizes: dict[str, int]) -> Page:
    """A page; `sizes` are of the packs that its tree names. Malformed."""
    try:
        magic, version, _, n_packs, n_frames, n_runs = PAGE.unpack_from(raw)
        at = PAGE.size + n_packs * PACK.size
        end = at + n_frames * FRAME.size
        if (magic, version) != (MAGIC, FORMAT) or len(raw) != end + n_runs * RUN.size or n_runs > GROUP_BLOCKS:
            raise Malformed("a page is not one")
        packs = [Pack(name.hex(), sizes[name.hex()]) for name, in PACK.iter_unpack(raw[PAGE.size:at])]
        page = Page([Frame(packs[pack], *rest) for pack, *rest in FRAME.iter_unpack(raw[at:end])], raw[end:])
    except (struct.error, IndexError, KeyError):
        raise Malformed("a page does not hold what it says") from None
    if any(not 0 < each.blocks <= FRAME_BLOCKS or each.offset_bytes + each.stored_bytes > each.pack.size_bytes
           for each in page.frames):
        raise Malformed("a page has frames that cannot be")
    if not placed.check_runs(page.runs, array("I", [each.blocks for each in page.frames]).tobytes(), GROUP_BLOCKS):
        raise Malformed("a page has runs that cannot be")
    return page


@dataclass(slots=True)
class Tree:
    """The pages of a snapshot, one a group or None where nothing is mapped, each with the packs that it refers to."""

    pages: list[str | None]
    packs_of: list[tuple[str, ...]]
    sizes: dict[str, int]           # of all packs

    @staticmethod
    def empty(groups: int) -> Tree:
        return Tree([None] * groups, [()] * groups, {})

    def set(self, group: int, page: str | None, packs: Iterable[Pack] = ()) -> None:
        found = {each.id: each.size_bytes for each in packs}
        self.pages[group], self.packs_of[group] = page, tuple(sorted(found))
        self.sizes.update(found)

    def pack(self) -> bytes:
        used = sorted({each for packs in self.packs_of for each in packs})
        number = {name: at for at, name in enumerate(used)}
        groups = [None if page is None else [page, *(number[each] for each in packs)]
                  for page, packs in zip(self.pages, self.packs_of, strict=True)]
        document = {"format": FORMAT, "packs": [[name, self.sizes[name]] for name in used], "groups": groups}
        return zlib.compress(json.dumps(document, separators=(",", ":")).encode(), 1)

    @staticmethod
    def unpack(raw: bytes) -> Tree:
        """Malformed."""
        try:
            document = json.loads(unzip(raw))
            packs = [(str(name), int(size)) for name, size in document["packs"]]
            tree = Tree.empty(len(document["groups"]))
            tree.sizes = dict(packs)
            for group, each in enumerate(document["groups"]):
                if each is not None:
                    tree.pages[group] = str(each[0])
                    tree.packs_of[group] = tuple(packs[at][0] for at in each[1:])
            return tree
        except (ValueError, KeyError, TypeError, IndexError):
            raise Malformed("a tree cannot be read") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """One backup: a snapshot, who it is and what it holds."""

    name: str
    guid: str
    origin_id: int
    pool: str
    size_bytes: int
    block_bytes: int
    checksum: bool
    created_s: float        # of the snapshot
    stored_s: float         # of the backup
    tree: str
    new_bytes: int          # that this backup added

    @property
    def groups(self) -> int:
        return -(-self.size_bytes // GROUP_BYTES)

    def pack(self) -> bytes:
        return json.dumps({"format": FORMAT, **asdict(self)}, separators=(",", ":")).encode()

    @staticmethod
    def unpack(raw: bytes) -> Manifest:
        """Malformed."""
        try:
            document: dict[str, Any] = json.loads(raw)
            if document.pop("format") != FORMAT:
                raise Malformed("a backup was made by a newer version")
            manifest = Manifest(**document)
            if not 0 < manifest.size_bytes <= 1 << 56 or manifest.size_bytes % BLOCK_BYTES:
                raise Malformed("a backup's size cannot be")
            return manifest
        except (ValueError, KeyError, TypeError, AttributeError):
            raise Malformed("a backup's manifest cannot be read") from None


def unzip(raw: bytes) -> bytes:
    """What a compressed object holds. Malformed, also when it is larger than any can be."""
    unpacker = zlib.decompressobj()
    try:
        found = unpacker.decompress(raw, MAX_META_BYTES)
    except zlib.error:
        raise Malformed("it cannot be unpacked") from None
    if unpacker.unconsumed_tail or not unpacker.eof:
        raise Malformed("it is not whole")
    return found
