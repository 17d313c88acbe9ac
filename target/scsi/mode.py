"""MODE SENSE and MODE SELECT, in both lengths (SPC-4 §6.9 to §6.12)."""

from __future__ import annotations

from target.scsi import sense
from target.scsi.mode_pages import CACHING, CURRENT, PAGES, ModePages, PageKey, first_refused
from target.scsi.task import Task
from target.scsi.unit_attention import UnitAttention

ALL_PAGES, ALL_SUBPAGES = 0x3F, 0xFF
WP, DPOFUA = 0x80, 0x10


# -- MODE SENSE --------------------------------------------------------------------------------------------------------
async def mode_sense_6(task: Task) -> bytes:
    """MODE SENSE (6)."""
    blocks = b"" if task.bit(1, 3) else short_descriptor(task)
    body = blocks + _sensed_pages(task)
    return bytes([min(3 + len(body), 255), 0, _device_specific(task), len(blocks)]) + body


async def mode_sense_10(task: Task) -> bytes:
    """MODE SENSE (10), with long block descriptors on request."""
    long = task.bit(1, 4)
    blocks = b"" if task.bit(1, 3) else long_descriptor(task) if long else short_descriptor(task)
    body = blocks + _sensed_pages(task)
    head = (6 + len(body)).to_bytes(2, "big") + bytes([0, _device_specific(task), 1 if long and blocks else 0, 0])
    return head + len(blocks).to_bytes(2, "big") + body


def _device_specific(task: Task) -> int:
    return DPOFUA | (WP if task.unit.shown_protected else 0)


def short_descriptor(task: Task) -> bytes:
    blocks = min(task.unit.size_blocks, 0xFFFFFFFF)
    return blocks.to_bytes(4, "big") + b"\0" + task.unit.block_bytes.to_bytes(3, "big")


def long_descriptor(task: Task) -> bytes:
    return task.unit.size_blocks.to_bytes(8, "big") + bytes(4) + task.unit.block_bytes.to_bytes(4, "big")


def _sensed_pages(task: Task) -> bytes:
    control, code, subcode = task.cdb[2] >> 6, task.cdb[2] & 0x3F, task.cdb[3]
    if subcode not in (0, ALL_SUBPAGES) and PageKey(code, subcode) not in PAGES:
        raise sense.invalid_cdb(3)
    found = [key for key in sorted(PAGES) if (code in (ALL_PAGES, key.code)) and subcode in (ALL_SUBPAGES, key.subcode)]
    if not found:
        raise sense.invalid_cdb(2, 5)
    return b"".join(PAGES[key].encode(task.unit.mode.values(key, control)) for key in found)


# -- MODE SELECT -------------------------------------------------------------------------------------------------------
async def mode_select_6(task: Task) -> bytes:
    """MODE SELECT (6)."""
    await _select(task, 4, long_header=False)
    return b""


async def mode_select_10(task: Task) -> bytes:
    """MODE SELECT (10)."""
    await _select(task, 8, long_header=True)
    return b""


async def _select(task: Task, header: int, long_header: bool) -> None:
    """Check the whole list, then take it. PF must be 1; SP saves every page (SPC-4 §6.9)."""
    parameters = task.parameters()
    save = task.bit(1, 0)
    if not parameters:
        return
    if not task.bit(1, 4):
        raise sense.invalid_cdb(1, 4)
    if len(parameters) < header:
        raise sense.illegal(sense.PARAMETER_LIST_LENGTH_ERROR)
    if long_header:
        length, long = int.from_bytes(parameters[6:8], "big"), bool(parameters[4] & 1)
        at_medium, at_length = 2, 6
    else:
        length, long, at_medium, at_length = parameters[3], False, 1, 3
    if parameters[at_medium]:
        raise sense.invalid_parameter(at_medium)
    _check_block_descriptor(task, parameters, header, length, long, at_length)
    pages = parse_pages(task.unit.mode, parameters, header + length)
    changed = task.unit.mode.change(pages, save)
    if changed:
        task.unit.attention.raise_for_all(UnitAttention.MODE_PARAMETERS_CHANGED, but=task.nexus)
        task.unit.gate_check()
    if changed and CACHING in pages and not task.unit.mode.write_cache_enabled:
        await task.unit.backend.flush()
    if save:
        await task.unit.persist()


def _check_block_descriptor(task: Task, parameters: bytes, header: int, length: int, long: bool,
                            at_length: int) -> None:
    """None, or one that describes the medium as it is: neither its size nor its block length can be selected."""
    if length == 0:
        return
    if length != (16 if long else 8):
        raise sense.invalid_parameter(at_length)
    given = parameters[header:header + length]
    if len(given) < length:
        raise sense.illegal(sense.PARAMETER_LIST_LENGTH_ERROR)
    blocks = int.from_bytes(given[0:8] if long else given[0:4], "big")
    block_bytes = int.from_bytes(given[12:16] if long else given[5:8], "big")
    most = task.unit.size_blocks if long else min(task.unit.size_blocks, 0xFFFFFFFF)
    if blocks not in (0, most, (1 << (64 if long else 32)) - 1):
        raise sense.invalid_parameter(header)
    if block_bytes != task.unit.block_bytes:
        raise sense.invalid_parameter(header + (12 if long else 5))


def parse_pages(mode: ModePages, parameters: bytes, at: int) -> dict[PageKey, bytes]:
    """The pages of a MODE SELECT list from offset `at`, each checked against its changeable mask."""
    pages: dict[PageKey, bytes] = {}
    while at < len(parameters):
        sub = bool(parameters[at] & 0x40)
        header = 4 if sub else 2
        if len(parameters) < at + header:
            raise sense.illegal(sense.PARAMETER_LIST_LENGTH_ERROR)
        key = PageKey(parameters[at] & 0x3F, parameters[at + 1] if sub else 0)
        page = PAGES.get(key)
        if page is None or (sub and not key.subcode):
            raise sense.invalid_parameter(at, 5)
        length = int.from_bytes(parameters[at + 2:at + 4], "big") if sub else parameters[at + 1]
        if length != len(page.default):
            raise sense.invalid_parameter(at + (2 if sub else 1))
        values = parameters[at + header:at + header + length]
        if len(values) < length:
            raise sense.illegal(sense.PARAMETER_LIST_LENGTH_ERROR)
        refused = first_refused(page, pages.get(key, mode.values(key, CURRENT)), values)
        if refused is not None:
            raise sense.invalid_parameter(at + header + refused[0], refused[1])
        pages[key] = values
        at += header + length
    return pages
