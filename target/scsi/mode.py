"""Mode pages: current, changeable, default, saved; MODE SENSE and MODE SELECT (SPC-4 §6.11, §7.5, SBC-4 §6.5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from target.scsi import sense
from target.scsi.unit_attention import UnitAttention

if TYPE_CHECKING:
    from target.scsi.cdb import Task

ALL_PAGES, ALL_SUBPAGES = 0x3F, 0xFF
CURRENT, CHANGEABLE, DEFAULT, SAVED = 0, 1, 2, 3
WP, DPOFUA = 0x80, 0x10


class PageKey(NamedTuple):
    code: int
    subcode: int


@dataclass(frozen=True, slots=True)
class ModePage:
    """A page's parameters after its header: default values, and 1 in every bit that MODE SELECT may change."""

    name: str
    key: PageKey
    default: bytes
    changeable: bytes
    clause: str

    def encode(self, values: bytes, saveable: bool = True) -> bytes:
        first = (0x80 if saveable else 0) | self.key.code
        if self.key.subcode:
            return bytes([first | 0x40, self.key.subcode]) + len(values).to_bytes(2, "big") + values
        return bytes([first, len(values)]) + values


def _page(name: str, code: int, subcode: int, clause: str, size: int, default: dict[int, int],
          changeable: dict[int, int]) -> ModePage:
    """A page from its parameter bytes that are not zero; offsets count from the start of the page, header included."""
    header = 4 if subcode else 2
    values, mask = bytearray(size), bytearray(size)
    for offset, value in default.items():
        values[offset - header] = value
    for offset, value in changeable.items():
        mask[offset - header] = value
    return ModePage(name, PageKey(code, subcode), bytes(values), bytes(mask), clause)


CACHING = PageKey(0x08, 0)
CONTROL = PageKey(0x0A, 0)
PROVISIONING = PageKey(0x1C, 2)

PAGES: dict[PageKey, ModePage] = {page.key: page for page in (
    _page("Read-Write Error Recovery", 0x01, 0, "SBC-4 §6.5.10", 10, {}, {}),
    _page("Disconnect-Reconnect", 0x02, 0, "SPC-4 §7.5.10", 14, {}, {}),
    _page("Caching", 0x08, 0, "SBC-4 §6.5.6", 18, {2: 0x04}, {2: 0x04}),
    # GLTSD; unrestricted reordering; TAS, or hosts that set no time limits wait for ever; busy timeout unlimited
    _page("Control", 0x0A, 0, "SPC-4 §7.5.8", 10, {2: 0x02, 3: 0x10, 5: 0x40, 8: 0xFF, 9: 0xFF},
          {2: 0x04, 4: 0x08, 5: 0x40}),
    _page("Control Extension", 0x0A, 1, "SPC-4 §7.5.9", 28, {4: 0x01, 6: 252}, {}),
    _page("Informational Exceptions Control", 0x1C, 0, "SBC-4 §6.5.8", 10, {2: 0x08}, {}),
    # one soft threshold, on what is available, in sets of 1 MiB; disabled
    _page("Logical Block Provisioning", 0x1C, 2, "SBC-4 §6.5.9", 20, {17: 0x01},
          {16: 0x80, 20: 0xFF, 21: 0xFF, 22: 0xFF, 23: 0xFF}),
)}
THRESHOLD_ENABLED, THRESHOLD_COUNT = 16 - 4, slice(20 - 4, 24 - 4)


class ModePages:
    """The values of one logical unit's mode pages; shared by all its nexuses."""

    def __init__(self) -> None:
        self._current = {key: page.default for key, page in PAGES.items()}
        self._saved = dict(self._current)

    # -- what the rest of the unit asks ------------------------------------------------------------------------
    @property
    def write_cache_enabled(self) -> bool:
        return bool(self._current[CACHING][0] & 0x04)

    @property
    def descriptor_sense(self) -> bool:
        return bool(self._current[CONTROL][0] & 0x04)

    @property
    def task_aborted_status(self) -> bool:
        """TAS: what another nexus aborts ends with TASK ABORTED status (SAM-5 §5.3.1)."""
        return bool(self._current[CONTROL][3] & 0x40)

    @property
    def software_write_protect(self) -> bool:
        return bool(self._current[CONTROL][2] & 0x08)

    @property
    def threshold_sets(self) -> int | None:
        """The available threshold in threshold sets, or None when it is disabled."""
        page = self._current[PROVISIONING]
        return int.from_bytes(page[THRESHOLD_COUNT], "big") if page[THRESHOLD_ENABLED] & 0x80 else None

    # -- values ------------------------------------------------------------------------------------------------
    def values(self, key: PageKey, control: int) -> bytes:
        page = PAGES[key]
        return {CURRENT: self._current[key], CHANGEABLE: page.changeable, DEFAULT: page.default,
                SAVED: self._saved[key]}[control]

    def change(self, pages: dict[PageKey, bytes], save: bool) -> bool:
        """Take checked values; True when a current value became another."""
        changed = any(self._current[key] != values for key, values in pages.items())
        self._current.update(pages)
        if save:
            self._saved.update(self._current)
        return changed

    def reset(self) -> None:
        """Current values become the saved ones."""
        self._current = dict(self._saved)

    def saved(self) -> dict[str, Any]:
        """Saved pages that differ from their defaults, as JSON."""
        return {f"{key.code:02x}.{key.subcode:02x}": values.hex() for key, values in self._saved.items()
                if values != PAGES[key].default}

    def load(self, saved: dict[str, Any]) -> None:
        """Take what `saved` gave; ValueError for pages that are not this target's."""
        for name, text in saved.items():
            code, _, subcode = name.partition(".")
            key, values = PageKey(int(code, 16), int(subcode, 16)), bytes.fromhex(text)
            page = PAGES.get(key)
            if page is None or len(values) != len(page.default) or not _allowed(page, page.default, values):
                raise ValueError(f"not a saved mode page: {name}")
            self._saved[key] = values
        self.reset()


def _allowed(page: ModePage, old: bytes, new: bytes) -> bool:
    return _first_refused(page, old, new) is None


def _first_refused(page: ModePage, old: bytes, new: bytes) -> tuple[int, int] | None:
    """(Byte, bit) of the first change outside the changeable mask."""
    for index, (before, after, mask) in enumerate(zip(old, new, page.changeable, strict=True)):
        wrong = (before ^ after) & ~mask
        if wrong:
            return index, wrong.bit_length() - 1
    return None


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
    return DPOFUA | (WP if task.unit.write_protected else 0)


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
        refused = _first_refused(page, pages.get(key, mode.values(key, CURRENT)), values)
        if refused is not None:
            raise sense.invalid_parameter(at + header + refused[0], refused[1])
        pages[key] = values
        at += header + length
    return pages
