"""Every offset, size and number of a stream, in one table (docs/stream-format.md).

The native core reads the same numbers: setup.py writes `c_header()` to core/stream/_stream.h. All integers are little-endian.
"""

from __future__ import annotations

from core.layout import BLOCK_BYTES, Field, field_offsets, numbers

MAGIC = 0x53544E4C          # "LNTS"
VERSION = 1
HEADER_BYTES = 64
SPAN_BYTES = 2 << 20        # what an EXTENTS frame speaks of at most, within one aligned stretch of so much
EXTENT_BYTES = 8
MAX_EXTENTS = SPAN_BYTES // BLOCK_BYTES
MAX_BODY_BYTES = SPAN_BYTES + MAX_EXTENTS * EXTENT_BYTES
MAX_TEXT_BYTES = 65536      # of the JSON in BEGIN and ERROR
MAX_SIZE_BYTES = 1 << 56    # of a volume
MARK_BYTES = 64 << 20       # a MARK follows so much at the latest ...
MARK_US = 1000000           # ... or so long

HEADER = (
    Field(0, 4, "magic", "`LNTS`"),
    Field(4, 2, "version", "1; a newer one is refused"),
    Field(6, 1, "type", "see Types"),
    Field(7, 1, "flags", "see Flags"),
    Field(8, 8, "stream", "random, the same in all frames of a stream"),
    Field(16, 8, "sequence", "0 in the first frame, then one more in each"),
    Field(24, 8, "offset", "bytes, a multiple of 4096"),
    Field(32, 8, "span", "bytes that the frame speaks of from offset on, a multiple of 4096"),
    Field(40, 4, "extents", "entries in the table of an EXTENTS frame"),
    Field(44, 4, "raw_bytes", "of the body, unpacked"),
    Field(48, 4, "stored_bytes", "of the body, as it follows"),
    Field(52, 4, "body_crc", "CRC32C of the body, as it follows"),
    Field(56, 4, "reserved", "0"),
    Field(60, 4, "header_crc", "CRC32C of bytes 0..59"),
)
EXTENT = (
    Field(0, 2, "delta", "blocks that are not changed before it, from the end of the entry before, or from offset"),
    Field(2, 2, "blocks", "1 to 512"),
    Field(4, 1, "kind", "1 data: its blocks are in the payload; 2 hole: nothing is mapped; 3 zero: mapped, and all zeros"),
)
END = (
    Field(0, 8, "frames", "of the stream before this one"),
    Field(8, 8, "data_bytes", "in the payloads of the stream"),
    Field(16, 8, "hole_bytes", "that holes cover, in tables and HOLE frames"),
    Field(24, 8, "zero_bytes", "that zero entries cover"),
    Field(32, 32, "sha256", "SHA-256 over the 4 bytes of header_crc of each frame of the stream before this one"),
)
END_BYTES = 64

TYPES = {"begin": 1, "extents": 2, "hole": 3, "mark": 4, "keepalive": 5, "error": 6, "end": 7}
FLAGS = {"critical": 1, "zstd": 2, "more": 4}
KINDS = {"data": 1, "hole": 2, "zero": 3}

# What a frame of each type has: offset, span, table of extents, most bytes of its body.
USES: dict[str, tuple[bool, bool, bool, int]] = {
    "begin": (True, True, False, MAX_TEXT_BYTES),
    "extents": (True, True, True, MAX_BODY_BYTES),
    "hole": (True, True, False, 0),
    "mark": (True, False, False, 0),
    "keepalive": (False, False, False, 0),
    "error": (False, False, False, MAX_TEXT_BYTES),
    "end": (True, False, False, END_BYTES),
}
# Which state a stream is in after a frame, by the state before: what is not here is out of order.
STATES = {"idle": 0, "open": 1, "over": 2}
ORDER: dict[tuple[str, str], str] = {
    ("idle", "begin"): "open", ("idle", "keepalive"): "idle", ("idle", "error"): "over",
    ("open", "extents"): "open", ("open", "hole"): "open", ("open", "mark"): "open", ("open", "keepalive"): "open",
    ("open", "error"): "over", ("open", "end"): "over",
}
AFTER_MORE = "idle"         # an END whose flag says that more follows

# Why bytes are not a stream, or not the stream that was begun. The order is the native enum's.
ERRORS = (
    ("ok", ""), ("foreign", "this is not a stream of Lunette's"), ("newer", "the stream has a newer version"),
    ("header", "a frame's header is damaged"), ("body", "a frame's body is damaged"),
    ("malformed", "a frame says what cannot be"), ("unknown", "a frame is of a type that is not known here, and critical"),
    ("order", "a frame is missing, or comes twice or out of order"), ("stream", "a frame of another stream is among them"),
    ("packed", "a frame's body does not unpack to what its header says"), ("truncated", "the stream ends before its end"),
    ("zstd", "the library libzstd.so.1 is not there"), ("memory", "memory is short"),
)


def c_header() -> str:
    """The same table as C macros."""
    lines = ["/* Made by setup.py from core/stream/layout.py. */", "#ifndef LNT_STREAM_LAYOUT_H", "#define LNT_STREAM_LAYOUT_H"]
    for name in ("MAGIC", "VERSION", "HEADER_BYTES", "SPAN_BYTES", "EXTENT_BYTES", "MAX_EXTENTS", "MAX_BODY_BYTES", "END_BYTES",
                 "MAX_SIZE_BYTES", "MARK_BYTES", "MARK_US"):
        lines.append(f"#define S_{name} {globals()[name]:#x}ULL")
    for prefix, fields in (("SH", HEADER), ("SX", EXTENT), ("SN", END)):
        lines += field_offsets(prefix, fields)
    for prefix, table in (("ST", TYPES), ("SF", FLAGS), ("SK", KINDS), ("SS", STATES)):
        lines += numbers(f"STREAM_{prefix}", table)
    lines += numbers("STREAM_SE", {name: number for number, (name, _) in enumerate(ERRORS)})
    uses = ", ".join(f"[{TYPES[name]}] = {{{int(offset)}, {int(span)}, {int(table)}, {most}}}"
                     for name, (offset, span, table, most) in USES.items())
    order = ", ".join(f"[{STATES[state]}][{TYPES[name]}] = {STATES[after] + 1}" for (state, name), after in ORDER.items())
    lines += [f"struct lnt_stream_use {{ unsigned char offset, span, table; unsigned body; }};\n"
              f"static const struct lnt_stream_use lnt_stream_uses[{max(TYPES.values()) + 1}] = {{{uses}}};",
              "/* The state after, and one; 0: out of order. */",
              f"static const unsigned char lnt_stream_order[{len(STATES)}][{max(TYPES.values()) + 1}] = {{{order}}};"]
    return "\n".join([*lines, "#endif", ""])
