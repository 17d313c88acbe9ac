"""Every on-disk offset, size and number of a Lunette pool, in one table (docs/on-disk-format.md).

The native core reads the same numbers: setup.py writes `c_header()` to core/_layout.h. All integers are little-endian.
"""

from __future__ import annotations

from typing import NamedTuple

BLOCK_BYTES = 4096
RUN_BLOCKS = 512            # 2 MiB: what one leaf of the map spans, and what a huge entry maps
GROUP_BLOCKS = 1024         # what one page of reference counts covers
ZONE_BLOCKS = 1 << 20       # 4 GiB: the unit of the fixed metadata
FORMAT_VERSION = 2          # the newest that is known: of a pool that has, or had, sparse leaves
FIRST_VERSION = 1           # of all others

# -- fixed regions of a zone, in blocks from the zone's start ------------------------------------------------------
SUPERBLOCK_SLOTS = (0, 1)   # zone 0 only; both copies say the same, written one after the other with a sync between
OWNER_BLOCK = 2             # zone 0 only: who serves the pool, in its first sector (docs/ownership.md)
SUMMARY_START = 16          # 2 pages: used blocks of each of the zone's 2048 runs
SUMMARY_PAGES = 2
SUMMARY_RUNS = 1024         # runs a summary page covers
COUNT_START = 32            # 1024 pages: reference counts, one page a group
COUNT_PAGES = 1024
CSUM_START = 1056           # 1041 pages: CRC32C of data blocks (volumes with --checksum)
CSUM_PAGES = 1041
CSUM_BLOCKS = 1008          # blocks a checksum page covers
ZONE_META_BLOCKS = 2560     # the fixed part of each zone: 5 runs

# -- identifiers -----------------------------------------------------------------------------------------------------
SUPERBLOCK_MAGIC = b"LUNETTE\0"
PAGE_MAGIC = 0x47504E4C     # "LNPG"
FRAME_MAGIC = 0x4A504E4C    # "LNPJ"
PAGE_KINDS = {"node": 1, "count": 2, "csum": 3, "catalog": 4, "summary": 5, "directory": 6, "pending": 7}

# -- limits ----------------------------------------------------------------------------------------------------------
NODE_ENTRIES = 512
POOL_BLOCKS_MAX = 1 << 38   # 1 PiB
SPARSE_LEVEL = 64           # in the header of a sparse leaf
GROUP_BITS = 7              # 2^7 entries of a level-1 node share a sparse leaf at most: 256 MiB of an object
PLACES = RUN_BLOCKS << GROUP_BITS       # blocks that a sparse leaf can tell apart
MAX_LEVEL = 4               # root level: 0 spans 2 MiB, 1 1 GiB, 2 512 GiB, 3 256 TiB, 4 128 PiB
NODE_LEVELS = frozenset({*range(MAX_LEVEL + 1), SPARSE_LEVEL})
PBA_BITS = 40
COUNT_MAX = (1 << 24) - 1
SLOTS_PER_PAGE = 7
SLOT_BYTES = 512
NAME_BYTES = 128
LONG_NAME_BYTES = 255         # ... of a snapshot: VOLUME@LABEL goes on in the slot's `origin`
PROPS_BYTES = 160
KV_KEY_BYTES = 120
KV_CHUNK_BYTES = 376
KV_VALUE_BYTES = 131072
KV_GOES = 0xFFFFFFFF        # value_bytes of a record that removes its key
FRAME_BLOCKS = 64           # the largest journal frame: 256 KiB
ATOMIC_BLOCKS = 256         # the longest atomic write, 1 MiB: whatever its pieces, their records fit one frame
DIRECTORY_ENTRIES = 252     # a page
PENDING_ITEMS = 252         # likewise


class Field(NamedTuple):
    """One field of an on-disk structure."""

    offset: int
    size: int
    name: str
    meaning: str


# -- superblock: one block, twice ---------------------------------------------------------------------------------------
SUPERBLOCK = (
    Field(0, 8, "magic", "`LUNETTE\\0`"),
    Field(8, 4, "crc", "CRC32C of bytes 12..4095"),
    Field(12, 4, "version", "format version; a newer one is refused"),
    Field(16, 16, "uuid", "of the pool; its first 4 bytes tag every page, all 16 every journal frame"),
    Field(32, 8, "sb_gen", "raised by every superblock write"),
    Field(40, 8, "ckpt_gen", "the checkpoint that this superblock publishes"),
    Field(48, 8, "total_blocks", "size of the pool, a multiple of 512"),
    Field(56, 8, "journal_start", "first block of the journal ring"),
    Field(64, 4, "journal_blocks", "length of the ring"),
    Field(68, 4, "area_blocks", "length of ONE checkpoint area half"),
    Field(72, 8, "area_start", "first block of the two checkpoint area halves"),
    Field(80, 8, "journal_seq", "sequence number of the first frame after the checkpoint"),
    Field(88, 4, "journal_pos", "its place in the ring, in blocks"),
    Field(92, 4, "area_images", "page images in area half ckpt_gen & 1"),
    Field(96, 4, "area_pending", "pending-list pages behind the images"),
    Field(100, 4, "flags", "1: closed cleanly (journal empty, homes written); 2: frames not synced must not be trusted; "
          "4: the medium may still keep what is free; 8: a block device that may be thin has taken all that a pool needs"),
    Field(104, 8, "catalog_root", "block of the catalog tree's root node, 0: none"),
    Field(112, 4, "catalog_level", "level of that node"),
    Field(116, 4, "catalog_slots", "slots in the catalog, used or free"),
    Field(120, 8, "next_id", "the next object id; ids are never reused"),
    Field(128, 8, "free_blocks", "blocks no one refers to, at the checkpoint"),
    Field(136, 8, "pending_crc", "CRC32C over the directory pages of the area half"),
    Field(144, 64, "cache_token", "life of the page cache above the medium when the pool was opened, zero-padded"),
    Field(208, 64, "name", "the pool's name, UTF-8, zero-padded"),
    Field(272, 16, "identity", "what the pool is known by; zeros in older pools, which are known by their uuid"),
    Field(1024, 512, "node_runs", "up to 128 runs of 4 bytes each that only nodes are put in, 0: none; a hint"),
)
SUPERBLOCK_FLAGS = {"clean": 1, "distrust": 2, "unswept": 4, "ahead": 8}

# -- ownership record: one sector, which a medium writes whole or not at all -------------------------------------------
OWNER_MAGIC = b"LNTOWNER"
OWNER_BYTES = 512
OWNER_STATES = {"claimed": 1, "owned": 2, "given_up": 3}
OWNER = (
    Field(0, 8, "magic", "`LNTOWNER`; anything else, or a bad checksum: nobody"),
    Field(8, 4, "crc", "CRC32C of bytes 12..511"),
    Field(12, 4, "state", "1 claimed, 2 owned, 3 given up"),
    Field(16, 16, "owner", "random, of this opening"),
    Field(32, 8, "counter", "moves with each renewal"),
    Field(40, 8, "since_us", "Unix time of the claim in microseconds"),
    Field(48, 4, "lease_ms", "how long the owner may be silent; 0: it gives no sign, its process proves that it lives"),
    Field(52, 4, "pid", "its process, as its own namespace counts"),
    Field(56, 8, "started", "when that process began, in clock ticks since the boot"),
    Field(64, 8, "pid_namespace", "inode number of the namespace, and 2^32 times that of its time namespace; 0: not known"),
    Field(72, 16, "boot", "boot id of its machine"),
    Field(88, 24, "place", "what it opened: 1 file, 2 device, 3 image; device number; inode or disk sequence; 8 bytes each"),
    Field(112, 64, "host", "the machine's name, UTF-8, zero-padded"),
    Field(176, 64, "client", "the address that a Ceph cluster knows the owner by, zero-padded; zeros elsewhere"),
)

# -- page header: the first 64 bytes of every metadata page but the superblock and journal frames ---------------------
PAGE_HEADER_BYTES = 64
PAGE_HEADER = (
    Field(0, 4, "magic", "`LNPG`"),
    Field(4, 4, "crc", "CRC32C of bytes 8..4095"),
    Field(8, 1, "kind", "1 node, 2 count, 3 csum, 4 catalog, 5 summary, 6 directory, 7 pending"),
    Field(9, 1, "level", "of a node: 0 leaf, 64 sparse leaf"),
    Field(10, 2, "n", "directory, pending: entries used"),
    Field(12, 4, "tag", "first 4 bytes of the pool's uuid"),
    Field(16, 8, "home", "block where this page belongs; directory and pending: its index"),
    Field(24, 8, "gen", "checkpoint that wrote it"),
)
# payloads start at byte 64:
NODE_ENTRY_BYTES = 7        # 512 entries: bits 0..39 pba, bits 48..55 entry flags; of a sparse leaf: bits 40..55 place
NODE_FLAGS = {"data": 1, "node": 2, "huge": 4, "sparse": 8, "follow": 16}
NODE_GROUP_SHIFT = 53       # of an entry that is sparse or follows: bits 53..55, the group's size as a power of two
COUNT_BYTES = 3             # 1024 counts
SUMMARY_BYTES = 2           # 1024 used-block counts
CSUM_BYTES = 4              # 1008 checksums

DIRECTORY_ENTRY_BYTES = 16
DIRECTORY_ENTRY = (
    Field(0, 8, "home", "where the image belongs"),
    Field(8, 4, "crc", "the image's own"),
    Field(12, 4, "reserved", "0"),
)
PENDING_ITEM_BYTES = 16
PENDING_ITEM = (
    Field(0, 8, "block", "the first one, or the node's"),
    Field(8, 4, "length", "of data: how many blocks; of a node: its level"),
    Field(12, 4, "kind", "1 data, 2 node"),
)

# -- journal frame ----------------------------------------------------------------------------------------------------
FRAME_HEADER_BYTES = 64
FRAME_HEADER = (
    Field(0, 4, "magic", "`LNPJ`"),
    Field(4, 4, "crc", "CRC32C of bytes 8..length"),
    Field(8, 16, "uuid", "of the pool"),
    Field(24, 8, "seq", "rises by one a frame"),
    Field(32, 8, "hard_upto", "data of every record in frames up to this one was synced before this frame was written"),
    Field(40, 8, "synced_upto", "frames up to this one were themselves synced before this frame was written"),
    Field(48, 4, "length", "bytes of header and records; behind them zeros, or the next frame"),
    Field(52, 4, "flags", "1: pad, the ring goes on at its start"),
    Field(56, 4, "records", "number of records"),
)
FRAME_FLAGS = {"pad": 1}
MAP_RECORD_FLAGS = {"map_sums": 1}
RECORD_HEADER = (
    Field(0, 1, "type", "see RECORD_TYPES"),
    Field(1, 1, "flags", "map: 1 = `count` CRC32C values follow"),
    Field(4, 4, "length", "bytes of the record with this header, a multiple of 8"),
)
RECORD_TYPES = {"map": 1, "unmap": 2, "object": 3, "derive": 4, "delete": 5, "revert": 6, "resize": 7, "share": 8,
                "kv": 9, "grow": 10}
RECORDS = {
    "map": ((8, 8, "object"), (16, 8, "lba"), (24, 8, "pba"), (32, 4, "count")),
    "unmap": ((8, 8, "object"), (16, 8, "lba"), (24, 8, "count")),
    "object": ((8, 512, "slot"),),
    "derive": ((8, 8, "source"), (16, 512, "slot")),
    "delete": ((8, 8, "object"),),
    "revert": ((8, 8, "object"), (16, 8, "source")),
    "resize": ((8, 8, "object"), (16, 8, "size_bytes")),
    "share": ((8, 8, "object"), (16, 8, "lba"), (24, 8, "source"), (32, 8, "source_lba"), (40, 8, "count")),
    "kv": ((8, 4, "key_bytes"), (12, 4, "value_bytes")),
    "grow": ((8, 8, "total_blocks"),),
}



def record_bytes(record: str) -> int:
    """Bytes of a record with its header, without what may follow its fields."""
    offset, size, _ = RECORDS[record][-1]
    return (offset + size + 7) // 8 * 8


# -- catalog slot --------------------------------------------------------------------------------------------------------
SLOT_KINDS = {"free": 0, "object": 1, "kv": 2}
OBJECT_KINDS = {"volume": 1, "snapshot": 2, "clone": 3}
OBJECT_FLAGS = {"checksum": 1, "tail": 2}
OBJECT_SLOT = (
    Field(0, 1, "slot_kind", "1"),
    Field(1, 1, "kind", "1 volume, 2 snapshot, 3 clone"),
    Field(2, 1, "flags", "1: checksums of data are kept; 2: a shrink is under way, blocks behind the end may be mapped"),
    Field(3, 1, "level", "level of the root node"),
    Field(4, 4, "block_bytes", "logical block, 512 or 4096"),
    Field(8, 8, "id", "never reused"),
    Field(16, 8, "size_bytes", "a multiple of 4096"),
    Field(24, 8, "root", "block of the root node, 0: nothing mapped"),
    Field(32, 8, "mapped_blocks", "blocks that the map refers to"),
    Field(40, 8, "created_us", "Unix time in microseconds"),
    Field(48, 8, "origin_id", "0: none; of a snapshot, the volume that it belongs to"),
    Field(56, 8, "quota_bytes", "0: none"),
    Field(64, 8, "reserve_bytes", "space kept for this object"),
    Field(72, 16, "serial", "random, identifies the LUN for ever"),
    Field(88, 1, "name_bytes", "up to 128, of a snapshot up to 255"),
    Field(89, 1, "origin_bytes", "0 where the name goes on there"),
    Field(90, 1, "props_bytes", ""),
    Field(91, 1, "physical_exponent", "as reported: 2 to this power logical blocks make a physical one"),
    Field(96, 128, "name", "UTF-8; a longer one goes on in `origin`"),
    Field(224, 128, "origin", "UTF-8: what its origin was called, cut to fit; or the rest of the name"),
    Field(352, 160, "props", "opaque to the core"),
)
KV_SLOT = (
    Field(0, 1, "slot_kind", "2"),
    Field(1, 1, "key_bytes", ""),
    Field(2, 2, "part", "which part of the value"),
    Field(4, 2, "parts", "how many there are"),
    Field(6, 2, "chunk_bytes", "bytes of the value in this part"),
    Field(16, 120, "key", "UTF-8"),
    Field(136, 376, "chunk", ""),
)

STRUCTURES: dict[str, tuple[Field, ...]] = {
    "SB": SUPERBLOCK, "OW": OWNER, "PG": PAGE_HEADER, "FR": FRAME_HEADER, "RC": RECORD_HEADER, "OB": OBJECT_SLOT, "KV": KV_SLOT,
    "DE": DIRECTORY_ENTRY, "PI": PENDING_ITEM,
}


def field_offsets(prefix: str, fields: tuple[Field, ...]) -> list[str]:
    """C macros of where the fields of a structure lie."""
    return [f"#define {prefix}_{field.name.upper()} {field.offset}" for field in fields]


def numbers(prefix: str, table: dict[str, int]) -> list[str]:
    """C macros of the numbers that stand for words."""
    return [f"#define {prefix}_{name.upper()} {number}" for name, number in table.items()]


def c_header() -> str:
    """The same table as C macros: plain constants, offsets (`XX_FIELD`; of a record's fields `RF_RECORD_FIELD`), flag and type
    numbers, and bytes of records (`RB_RECORD`).
    """
    lines = ["/* Made by setup.py from core/layout.py. */", "#ifndef LNT_LAYOUT_H", "#define LNT_LAYOUT_H"]
    for name, value in sorted(globals().items()):
        if name.isupper() and isinstance(value, int):
            lines.append(f"#define L_{name} {value:#x}ULL" if value > 0x7FFFFFFF else f"#define L_{name} {value}")
    for prefix, fields in STRUCTURES.items():
        lines += field_offsets(prefix, fields)
    for record, parts in RECORDS.items():
        lines += [f"#define RF_{record.upper()}_{name.upper()} {offset}" for offset, _, name in parts]
        lines.append(f"#define RB_{record.upper()} {record_bytes(record)}")
    for prefix, table in (("PK", PAGE_KINDS), ("EF", NODE_FLAGS), ("FF", FRAME_FLAGS), ("RT", RECORD_TYPES),
                          ("RL", MAP_RECORD_FLAGS), ("SK", SLOT_KINDS), ("OK", OBJECT_KINDS), ("OF", OBJECT_FLAGS),
                          ("SF", SUPERBLOCK_FLAGS)):
        lines += numbers(prefix, table)
    return "\n".join([*lines, "#endif", ""])
