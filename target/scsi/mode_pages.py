"""Mode pages of a unit: which there are, what may change, their current, default and saved values (SPC-4 §7.5, SBC-4 §6.5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

CURRENT, CHANGEABLE, DEFAULT, SAVED = 0, 1, 2, 3


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
    return first_refused(page, old, new) is None


def first_refused(page: ModePage, old: bytes, new: bytes) -> tuple[int, int] | None:
    """(Byte, bit) of the first change outside the changeable mask."""
    for index, (before, after, mask) in enumerate(zip(old, new, page.changeable, strict=True)):
        wrong = (before ^ after) & ~mask
        if wrong:
            return index, wrong.bit_length() - 1
    return None
