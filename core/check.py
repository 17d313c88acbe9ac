"""Check a pool: every reference count rebuilt from every root, every checksum verified (docs/on-disk-format.md).

Reads a pool that nobody has open and never writes to it. It decodes the format itself, from `core/layout.py`: nothing
of the engine's in-memory code is used, so that an error there cannot hide itself. A pool that was not closed is first
recovered on a copy-on-write overlay in memory, because what it means is what recovery makes of it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

from core import layout
from core._check import Counts, data_blocks, group_regions, sparse_start
from core.base.crc32c import crc32c
from core.check_data import DataCheck, csum_page
from core.check_format import DIRECTORY_ENTRY, PAGE_SUMMED_FROM, PENDING_ITEM, SUPERBLOCK_SUMMED_FROM, PageHeader, unpack
from core.device import Device
from core.errors import PoolError
from core.units import format_size

BLOCK = layout.BLOCK_BYTES
RUN, GROUP, ZONE, PLACES = layout.RUN_BLOCKS, layout.GROUP_BLOCKS, layout.ZONE_BLOCKS, layout.PLACES
MOST_ERRORS = 100
PENDING_DATA, PENDING_NODE = 1, 2


@dataclass
class Report:
    """What `check` found. `errors` are single lines, at most 100 of them; `counts` are plain numbers."""

    ok: bool = True
    errors: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    mapped_blocks: dict[int, int] = field(default_factory=dict)      # object id -> blocks its map refers to

    def error(self, text: str) -> None:
        self.ok = False
        self.counts["errors"] = self.counts.get("errors", 0) + 1
        if len(self.errors) < MOST_ERRORS:
            self.errors.append(text)


class Overlay:
    """A device over another one: writes stay in memory (core.device.Device)."""

    def __init__(self, base: Device) -> None:
        self.base = base
        self.size_bytes = base.size_bytes
        self.cache_token = base.cache_token
        self.pages: dict[int, bytes] = {}

    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        first, last = offset_bytes // BLOCK, (offset_bytes + length_bytes - 1) // BLOCK
        if not any(page in self.pages for page in range(first, last + 1)):
            return self.base.read(offset_bytes, length_bytes)
        data = b"".join(self._page(page) for page in range(first, last + 1))
        return data[offset_bytes - first * BLOCK:][:length_bytes]

    def _page(self, page: int) -> bytes:
        held = self.pages.get(page)
        if held is None:
            held = self.base.read(page * BLOCK, min(BLOCK, self.size_bytes - page * BLOCK)).ljust(BLOCK, b"\0")
        return held

    def write(self, offset_bytes: int, data: bytes) -> None:
        at, data = 0, bytes(data)
        while at < len(data):
            page, inside = divmod(offset_bytes + at, BLOCK)
            count = min(BLOCK - inside, len(data) - at)
            old = self._page(page) if count < BLOCK else b""
            self.pages[page] = old[:inside] + data[at:at + count] + old[inside + count:]
            at += count

    def discard(self, offset_bytes: int, length_bytes: int) -> None:
        pass

    def sync(self) -> None:
        pass

    def close(self) -> None:
        pass


def check(device: Device, *, recover: bool = True, data: bool = False) -> Report:
    """Check the pool on `device`. With `recover` false a pool that was not closed is refused instead.

    With `data` every block of data that has a checksum is read and verified, too.
    """
    report = Report()
    try:
        checker = Checker(device, report)
        if checker.load_superblock() and not checker.clean:
            if not recover:
                report.error("the pool was not closed; open it once, or let check recover a copy in memory")
                return report
            report.notes.append("the pool was not closed: recovered in memory first")
            overlay = Overlay(device)
            try:
                _recover(overlay)
            except PoolError as error:
                report.error(f"recovery fails: {error}")
                return report
            report.counts["recovered"] = 1
            checker = Checker(overlay, report)
            if checker.load_superblock() and not checker.clean:
                report.error("recovery left the pool unclean")
                return report
        if report.ok:
            checker.run()
            if data:
                DataCheck(checker.read_data, checker.nodes, report).run(checker.summed_objects)
    except OSError as error:
        report.error(f"cannot read the pool: {error}")
    return report


def _recover(overlay: Overlay) -> None:
    from core.pool.engine import Pool
    pool = Pool(overlay)
    try:
        pool.close()
    except BaseException:
        pool.abandon()
        raise


@dataclass(slots=True)
class Node:
    """What the subtree below a node refers to, in data blocks: how many, and where the last of them ends."""

    level: int
    data: int = 0
    end: int = 0
    children: list[tuple[int, int]] = field(default_factory=list)
    summed: bool = False
    start: int = 0                       # of a sparse leaf: the place of its first block
    groups: dict[int, int] = field(default_factory=dict)         # slots with sparse leaves -> regions that share one


class Checker:
    """One pass over one clean pool."""

    def __init__(self, device: Device, report: Report) -> None:
        self.device = device
        self.report = report
        self.error = report.error
        self.sb: dict[str, Any] = {}
        self.tag = 0
        self.clean = False
        self.nodes: dict[int, Node] = {}
        self.catalog_pages: dict[int, bytes] = {}
        self.csum_pages: set[int] = set()
        self.pending: list[tuple[int, int, int]] = []
        self.summed_objects: list[tuple[str, int]] = []         # with checksums of data: what to call it, root
        self.unreadable: set[int] = set()

    # -- superblock --------------------------------------------------------------------------------------------------

    def load_superblock(self) -> bool:
        """Take the newer of the two copies; report what is wrong with either."""
        found = []
        problems = []
        for slot in layout.SUPERBLOCK_SLOTS:
            page = self.read(slot)
            sb = unpack(layout.SUPERBLOCK, page)
            if sb["magic"] != layout.SUPERBLOCK_MAGIC:
                problems.append(f"superblock {slot}: no Lunette superblock")
            elif crc32c(page[SUPERBLOCK_SUMMED_FROM:]) != sb["crc"]:
                problems.append(f"superblock {slot}: checksum fails")
            elif sb["version"] > layout.FORMAT_VERSION:
                self.error(f"superblock {slot}: format version {sb['version']} is newer than this program knows")
                return False
            else:
                found.append(sb)
        if not found:
            for problem in problems:
                self.error(problem)
            return False
        self.sb = max(found, key=lambda sb: int(sb["sb_gen"]))
        self.tag = int.from_bytes(self.sb["uuid"][:4], "little")
        self.clean = bool(self.sb["flags"] & layout.SUPERBLOCK_FLAGS["clean"])
        if self.clean:
            for problem in problems:
                self.error(problem)
            if len(found) == 2 and found[0] != found[1]:
                self.error("the two superblocks of a closed pool differ")
        else:
            self.report.notes.extend(problems)
        return self._check_geometry()

    def _check_geometry(self) -> bool:
        sb = self.sb
        total = sb["total_blocks"]
        fine = bool(
            total % RUN == 0 and total > layout.ZONE_META_BLOCKS and total * BLOCK <= self.device.size_bytes
            and sb["journal_start"] >= layout.ZONE_META_BLOCKS and sb["journal_blocks"] > 0
            and sb["journal_start"] + sb["journal_blocks"] <= total
            and sb["area_start"] >= layout.ZONE_META_BLOCKS and sb["area_start"] + 2 * sb["area_blocks"] <= total
            and sb["area_images"] + sb["area_pending"] <= sb["area_blocks"]
            and sb["catalog_root"] < total and sb["catalog_level"] <= layout.MAX_LEVEL)
        if not fine:
            self.error("superblock: numbers that do not fit the device or each other")
        return fine

    # -- pages -------------------------------------------------------------------------------------------------------

    def read(self, block: int, count: int = 1) -> bytes:
        """Blocks, with zeros for what cannot be read: one bad place does not hide the others."""
        try:
            return self.device.read(block * BLOCK, count * BLOCK)
        except OSError as error:
            if count > 1:
                return b"".join(self.read(each) for each in range(block, block + count))
            if block not in self.unreadable:
                self.error(f"block {block} cannot be read: {error.strerror or error}")
            self.unreadable.add(block)
            return bytes(BLOCK)

    def read_data(self, block: int, count: int = 1) -> bytes:
        """As `read`, but OSError: what data is to blame is for the caller to say."""
        return self.device.read(block * BLOCK, count * BLOCK)

    def page_fault(self, page: bytes, kind: str, home: int) -> str:
        """What is wrong with a metadata page; empty when nothing is."""
        header = PageHeader.of(page)
        if header.magic != layout.PAGE_MAGIC:
            return "cannot be read" if home in self.unreadable else "is not a metadata page"
        if crc32c(page[PAGE_SUMMED_FROM:]) != header.crc:
            return "fails its checksum"
        if header.kind != layout.PAGE_KINDS[kind]:
            return f"has kind {header.kind}, not {layout.PAGE_KINDS[kind]} ({kind})"
        if header.tag != self.tag:
            return "belongs to another pool"
        if header.home != home:
            return f"says it belongs to block {header.home}"
        if header.gen > self.sb["ckpt_gen"]:
            return "is of a checkpoint that the superblock does not know"
        return ""

    def fixed_end(self, zone: int) -> int:
        """The first block of a zone that may be allocated, counted from the start of the pool."""
        end = zone * ZONE + layout.ZONE_META_BLOCKS
        if zone == 0:
            sb = self.sb
            end = max(end, sb["journal_start"] + sb["journal_blocks"], sb["area_start"] + 2 * sb["area_blocks"])
        return (end + RUN - 1) // RUN * RUN

    # -- the whole ---------------------------------------------------------------------------------------------------

    def run(self) -> None:
        self.counts = Counts(self.sb["total_blocks"])
        self._load_area()
        objects, keys = self._load_catalog()
        self._check_objects(objects)
        self._check_keys(keys)
        self._walk_pending()
        self._check_space()
        kinds = {number: name for name, number in layout.OBJECT_KINDS.items()}
        for ob in objects:
            name = kinds.get(ob["kind"], "unknown") + "s"
            self.report.counts[name] = self.report.counts.get(name, 0) + 1
        self.report.counts.update(objects=len(objects), keys=len(keys), nodes=len(self.nodes),
                                  catalog_pages=len(self.catalog_pages), pending=len(self.pending))

    def _load_area(self) -> None:
        """The checkpoint area of the published generation: directory, images, pending list."""
        sb = self.sb
        images, pages = sb["area_images"], sb["area_pending"]
        start = sb["area_start"] + (sb["ckpt_gen"] & 1) * sb["area_blocks"]
        directories = (images + layout.DIRECTORY_ENTRIES - 1) // layout.DIRECTORY_ENTRIES
        if directories + images + pages > sb["area_blocks"]:
            self.error("the checkpoint area is shorter than its contents")
            return
        raw = self.read(start, directories) if directories else b""
        if directories and crc32c(raw) != sb["pending_crc"]:
            self.error("checkpoint area: the directory is not the one that the superblock names")
        for i in range(directories):
            page = raw[i * BLOCK:(i + 1) * BLOCK]
            problem = self.page_fault(page, "directory", i)
            if problem:
                self.error(f"checkpoint area: directory page {i} {problem}")
                continue
            n = min(layout.DIRECTORY_ENTRIES, images - i * layout.DIRECTORY_ENTRIES)
            if PageHeader.of(page).n != n:
                self.error(f"checkpoint area: directory page {i} lists another number of images")
                continue
            self._check_images(page, n, start + directories + i * layout.DIRECTORY_ENTRIES)
        for i in range(pages):
            self._load_pending(self.read(start + directories + images + i), i)

    def _check_images(self, directory: bytes, n: int, at: int) -> None:
        images = self.read(at, n)
        for k in range(n):
            home, crc = DIRECTORY_ENTRY.unpack_from(directory, layout.PAGE_HEADER_BYTES + k * DIRECTORY_ENTRY.size)
            image = images[k * BLOCK:(k + 1) * BLOCK]
            header = PageHeader.of(image)
            if (header.magic, header.crc) != (layout.PAGE_MAGIC, crc) or crc32c(image[PAGE_SUMMED_FROM:]) != crc:
                self.error(f"checkpoint area: the image of block {home} fails its checksum")

    def _load_pending(self, page: bytes, index: int) -> None:
        problem = self.page_fault(page, "pending", index)
        n = PageHeader.of(page).n
        if not problem and PageHeader.of(page).gen != self.sb["ckpt_gen"]:
            problem = "is of another checkpoint"
        if problem or n > layout.PENDING_ITEMS:
            self.error(f"pending list: page {index} {problem or 'lists too much'}")
            return
        for k in range(n):
            ref, length, flags = PENDING_ITEM.unpack_from(page, layout.PAGE_HEADER_BYTES + k * PENDING_ITEM.size)
            self.pending.append((ref, length, flags))

    # -- map ---------------------------------------------------------------------------------------------------------

    def walk(self, root: int, level: int | None, what: str, *, catalog: bool = False) -> Node | None:
        """Visit every node below `root` once, counting what it refers to; returns the root's sums."""
        if root not in self.nodes and not self._visit(root, level, what, catalog):
            return None
        order = [root]
        for block in order:
            node = self.nodes[block]
            if node.summed:
                continue
            for slot, child in node.children:
                known = self.nodes.get(child)
                level_below = layout.SPARSE_LEVEL if slot in node.groups else node.level - 1
                if known is None:
                    if node.level == 0 or not self._visit(child, level_below, what, catalog):
                        continue
                    known = self.nodes[child]
                elif known.level != level_below:
                    self.error(f"{what}: node {child} of level {known.level} hangs below node {block}, "
                               f"of level {node.level}")
                self._check_group_span(node, slot, known, child, what)
                if not known.summed:
                    order.append(child)
        for block in reversed(order):
            self._sum(self.nodes[block])
        if level is not None and self.nodes[root].level != level:
            self.error(f"{what}: root {root} has level {self.nodes[root].level}, not {level}")
        return self.nodes[root]

    def _check_group_span(self, node: Node, slot: int, leaf: Node, block: int, what: str) -> None:
        """A sparse leaf has blocks of its own group only."""
        first = slot * RUN % PLACES
        if slot in node.groups and not first <= leaf.start < leaf.end <= first + node.groups[slot] * RUN:
            self.error(f"{what}: the sparse leaf at block {block} has blocks of other regions, or none")

    def _sum(self, node: Node) -> None:
        if node.summed:
            return
        node.summed = True
        span = 512 ** node.level
        for slot, child in node.children:
            below = self.nodes.get(child)
            if below and below.data:
                node.data += below.data
                start = slot * span if slot not in node.groups else slot * span // PLACES * PLACES
                node.end = max(node.end, start + below.end)

    def _visit(self, block: int, level: int | None, what: str, catalog: bool) -> bool:
        if not 0 < block < self.sb["total_blocks"]:
            self.error(f"{what}: a node at block {block}, outside the pool")
            return False
        page = self.read(block)
        problem = self.page_fault(page, "node", block)
        its_level = PageHeader.of(page).level
        if not problem and (its_level not in layout.NODE_LEVELS or level not in (None, its_level)):
            problem = f"has level {its_level}, not {level}"
        if problem:
            self.error(f"{what}: the node at block {block} {problem}")
            return False
        children, data, end, bad = self.counts.scan(page, its_level, catalog)
        if bad >= 0:
            self.error(f"{what}: entry {bad} of the node at block {block} makes no sense")
        self.nodes[block] = node = Node(its_level, data, end, children)
        if its_level == layout.SPARSE_LEVEL:
            node.start = sparse_start(page)
        elif its_level == 1 and not catalog:
            node.groups = {slot: regions for slot, _ in children if (regions := group_regions(page, slot))}
        return True

    # -- catalog -----------------------------------------------------------------------------------------------------

    def _load_catalog(self) -> tuple[list[dict[str, Any]], dict[bytes, dict[int, dict[str, Any]]]]:
        sb = self.sb
        objects: list[dict[str, Any]] = []
        keys: dict[bytes, dict[int, dict[str, Any]]] = {}
        if not sb["catalog_root"]:
            if sb["catalog_slots"]:
                self.error("the catalog has slots and no root")
            return objects, keys
        self.counts.add(sb["catalog_root"])
        self.walk(sb["catalog_root"], sb["catalog_level"], "catalog", catalog=True)
        for index, block in self._catalog_leaves(sb["catalog_root"], 0):
            page = self.read(block)
            problem = self.page_fault(page, "catalog", block)
            if problem:
                self.error(f"catalog: the page at block {block} {problem}")
                continue
            self.catalog_pages[block] = page
            for i in range(layout.SLOTS_PER_PAGE):
                at = layout.PAGE_HEADER_BYTES + i * layout.SLOT_BYTES
                self._load_slot(page[at:at + layout.SLOT_BYTES], index * layout.SLOTS_PER_PAGE + i, objects, keys)
        return objects, keys

    def _catalog_leaves(self, root: int, base: int) -> list[tuple[int, int]]:
        """(page number, block) of every catalog page below a node."""
        node = self.nodes.get(root)
        if node is None:
            return []
        if node.level == 0:
            return [(base + slot, child) for slot, child in node.children]
        span = 512 ** node.level
        return [leaf for slot, child in node.children for leaf in self._catalog_leaves(child, base + slot * span)]

    def _load_slot(self, slot: bytes, number: int, objects: list[dict[str, Any]],
                   keys: dict[bytes, dict[int, dict[str, Any]]]) -> None:
        kind = slot[0]
        if kind == layout.SLOT_KINDS["free"]:
            return
        if number >= self.sb["catalog_slots"]:
            self.error(f"catalog: slot {number} is used, beyond the {self.sb['catalog_slots']} slots there are")
        if kind == layout.SLOT_KINDS["object"]:
            objects.append(unpack(layout.OBJECT_SLOT, slot))
        elif kind == layout.SLOT_KINDS["kv"]:
            part = unpack(layout.KV_SLOT, slot)
            parts = keys.setdefault(part["key"][:part["key_bytes"]], {})
            if part["part"] in parts:
                self.error(f"catalog: part {part['part']} of a key's value is there twice")
            parts[part["part"]] = part
        else:
            self.error(f"catalog: slot {number} has kind {kind}")

    def _check_keys(self, keys: dict[bytes, dict[int, dict[str, Any]]]) -> None:
        for key, parts in keys.items():
            counts = {part["parts"] for part in parts.values()}
            if len(counts) != 1 or sorted(parts) != list(range(counts.pop())):
                self.error(f"catalog: the value of key {key!r} is incomplete")
            if any(part["chunk_bytes"] > layout.KV_CHUNK_BYTES for part in parts.values()):
                self.error(f"catalog: key {key!r} has a chunk that is too long")

    def _check_objects(self, objects: list[dict[str, Any]]) -> None:
        names: set[bytes] = set()
        ids: set[int] = set()
        csum_pages: set[int] = set()
        seen: set[int] = set()
        for ob in objects:
            name = (ob["name"] + ob["origin"])[:ob["name_bytes"]]
            what = f"object {ob['id']} ({name.decode('utf-8', 'replace')})"
            is_long = ob["name_bytes"] > layout.NAME_BYTES
            if (is_long and (ob["kind"] != layout.OBJECT_KINDS["snapshot"] or ob["origin_bytes"])) or not name or name in names:
                self.error(f"{what}: its name is empty, too long or taken")
            if ob["id"] in ids or not 0 < ob["id"] < self.sb["next_id"]:
                self.error(f"{what}: its id is taken or was never given out")
            if (ob["kind"] not in layout.OBJECT_KINDS.values() or ob["block_bytes"] not in (512, 4096)
                    or ob["size_bytes"] % BLOCK or ob["level"] > layout.MAX_LEVEL or ob["physical_exponent"] > 3):
                size = format_size(ob["size_bytes"])
                self.error(f"{what}: kind {ob['kind']}, size {size} or level {ob['level']} is impossible")
                continue
            names.add(name)
            ids.add(ob["id"])
            self._check_map(ob, what)
            if ob["flags"] & layout.OBJECT_FLAGS["checksum"] and ob["root"]:
                self._collect_csums(ob["root"], csum_pages, seen)
                self.summed_objects.append((what, ob["root"]))
        self._check_csums(csum_pages)

    def _check_map(self, ob: dict[str, Any], what: str) -> None:
        data = end = 0
        if ob["root"]:
            self.counts.add(ob["root"])
            node = self.walk(ob["root"], ob["level"], what)
            if node is None:
                return
            data, end = node.data, node.end
        self.report.mapped_blocks[ob["id"]] = data
        if data != ob["mapped_blocks"]:
            self.error(f"{what}: maps {data} blocks, its catalog slot says {ob['mapped_blocks']}")
        if end * BLOCK > ob["size_bytes"] and not ob["flags"] & layout.OBJECT_FLAGS["tail"]:
            self.error(f"{what}: maps blocks up to {end}, behind its end")
        elif end * BLOCK > ob["size_bytes"]:
            self.report.notes.append(f"{what}: a shrink was interrupted, blocks up to {end} are still mapped")

    def _collect_csums(self, root: int, pages: set[int], seen: set[int]) -> None:
        todo = [root]
        while todo:
            block = todo.pop()
            node = self.nodes.get(block)
            if node is None or block in seen:
                continue
            seen.add(block)
            todo.extend(child for _, child in node.children)
            if node.level <= 1 or node.level == layout.SPARSE_LEVEL:
                for _, ref, length in data_blocks(self.read(block), node.level):
                    pages.update(csum_page(b) for b in {*range(ref, ref + length, layout.CSUM_BLOCKS),
                                                             ref + length - 1})

    def _check_csums(self, pages: set[int]) -> None:
        for home in sorted(pages):
            problem = self.page_fault(self.read(home), "csum", home)
            if problem:
                self.error(f"checksums: the page at block {home} {problem}")
        self.csum_pages = pages
        self.report.counts["csum_pages"] = len(pages)

    # -- space -------------------------------------------------------------------------------------------------------

    def _walk_pending(self) -> None:
        """References dropped and not yet taken off the counts still count; so does what hangs below a node."""
        for ref, length, flags in self.pending:
            fits = {PENDING_DATA: 0 < ref < ref + length <= self.counts.blocks,
                    PENDING_NODE: 0 < ref < self.counts.blocks and length in layout.NODE_LEVELS}  # a node's length: its level
            if not fits.get(flags):
                self.error(f"pending list: item {ref}+{length} with flags {flags} makes no sense")
            elif flags == PENDING_DATA:
                self.counts.add(ref, length)
            else:
                self.counts.add(ref)
                self._walk_dropped(ref)

    def _walk_dropped(self, ref: int) -> None:
        if ref in self.nodes or ref in self.catalog_pages:
            return
        page = self.read(ref)
        if PageHeader.of(page).kind == layout.PAGE_KINDS["catalog"] and not self.page_fault(page, "catalog", ref):
            self.catalog_pages[ref] = page
        else:
            self.walk(ref, None, "pending list")

    def _check_space(self) -> None:
        total = self.sb["total_blocks"]
        used = wanted = leaked = loose = wrong = allocatable = 0
        for zone in range((total + ZONE - 1) // ZONE):
            end = min(total, (zone + 1) * ZONE)
            first = min(self.fixed_end(zone), end)
            allocatable += end - first
            summary = self._load_summary(zone)
            for group in range(zone * ZONE // GROUP, (end + GROUP - 1) // GROUP):
                u, w, a, b, c = self._check_group(group, zone, summary, first, end)
                used, wanted, leaked, loose, wrong = used + u, wanted + w, leaked + a, loose + b, wrong + c
        if allocatable - used != self.sb["free_blocks"]:
            self.error(f"{allocatable - used} blocks are free, the superblock says {self.sb['free_blocks']}")
        if leaked:
            self.error(f"{leaked} blocks are leaked: counted, and nothing refers to them")
        if loose:
            self.error(f"{loose} blocks are in use while counted free")
        if wrong:
            self.error(f"{wrong} blocks have a count that differs from their references")
        self.report.counts.update(total_blocks=total, used_blocks=used, referred_blocks=wanted,
                                  free_blocks=allocatable - used, leaked_blocks=leaked, loose_blocks=loose,
                                  miscounted_blocks=wrong)

    def _load_summary(self, zone: int) -> list[int]:
        runs: list[int] = []
        for i in range(layout.SUMMARY_PAGES):
            home = zone * ZONE + layout.SUMMARY_START + i
            if zone * ZONE + i * layout.SUMMARY_RUNS * RUN >= self.sb["total_blocks"]:
                runs += [-1] * layout.SUMMARY_RUNS
                continue
            page = self.read(home)
            problem = self.page_fault(page, "summary", home)
            if problem:
                self.error(f"space: the summary page at block {home} {problem}")
                runs += [-1] * layout.SUMMARY_RUNS
            else:
                runs += struct.unpack_from(f"<{layout.SUMMARY_RUNS}H", page, layout.PAGE_HEADER_BYTES)
        return runs

    def _check_group(self, group: int, zone: int, summary: list[int], first: int, end: int
                     ) -> tuple[int, int, int, int, int]:
        """One count page against the references and the summary: (used, referred, leaked, loose, wrong)."""
        inside = group * GROUP - zone * ZONE
        runs = summary[inside // RUN:inside // RUN + 2]
        start = group * GROUP
        usable = [first <= start + half * RUN < end for half in (0, 1)]
        page: bytes | None = None
        if any(ok and said for ok, said in zip(usable, runs, strict=True)):
            home = zone * ZONE + layout.COUNT_START + inside // GROUP
            page = self.read(home)
            problem = self.page_fault(page, "count", home)
            if problem:
                self.error(f"space: the count page at block {home} {problem}")
                return 0, 0, 0, 0, 0
        used0, used1, wanted, differences, leaked, loose, wrong = self.counts.compare(group, page, first, end)
        for block, have, want in differences:
            self.error(f"space: block {block} is counted {have} times and referred to {want} times")
        for half, used in enumerate((used0, used1)):
            said = runs[half]
            expected = used if usable[half] else RUN
            if said not in (-1, expected):
                self.error(f"space: the summary says {said} blocks of run {group * 2 + half} are used, not {expected}")
        return used0 + used1, wanted, leaked, loose, wrong
