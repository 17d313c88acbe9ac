"""docs/on-disk-format.md and core/layout.py say the same, and no two fields overlap."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from core import layout

DOC = (Path(__file__).parents[2] / "docs" / "on-disk-format.md").read_text()
SECTIONS = {
    "Superblock": layout.SUPERBLOCK, "Ownership record": layout.OWNER, "Page header": layout.PAGE_HEADER,
    "Journal frame header": layout.FRAME_HEADER, "Journal record header": layout.RECORD_HEADER,
    "Catalog slot: object": layout.OBJECT_SLOT,
    "Catalog slot: part of a key's value": layout.KV_SLOT,
    "Entry of the directory": layout.DIRECTORY_ENTRY, "Item of the pending list": layout.PENDING_ITEM,
}


def rows(title: str) -> list[list[str]]:
    body = DOC.split(f"### {title}\n", 1)[1].split("\n### ", 1)[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in body.splitlines() if re.match(r"\| \d", line)]


@pytest.mark.parametrize("title", SECTIONS)
def test_the_document_holds_every_field(title: str) -> None:
    assert rows(title) == [[str(f.offset), str(f.size), f.name, f.meaning] for f in SECTIONS[title]]


@pytest.mark.parametrize("title", SECTIONS)
def test_fields_do_not_overlap(title: str) -> None:
    end = 0
    for field in SECTIONS[title]:
        assert field.offset >= end
        end = field.offset + field.size


def test_records_are_documented() -> None:
    for name, fields in layout.RECORDS.items():
        text = ", ".join(f"{offset}+{size} {field}" for offset, size, field in fields)
        assert f"| {name} | {layout.RECORD_TYPES[name]} | {text} |" in DOC


def test_regions_of_a_zone_do_not_overlap() -> None:
    assert max(layout.SUPERBLOCK_SLOTS) < layout.OWNER_BLOCK < layout.SUMMARY_START
    assert layout.SUMMARY_START + layout.SUMMARY_PAGES <= layout.COUNT_START
    assert layout.COUNT_START + layout.COUNT_PAGES <= layout.CSUM_START
    assert layout.CSUM_START + layout.CSUM_PAGES <= layout.ZONE_META_BLOCKS
    assert layout.ZONE_META_BLOCKS % layout.RUN_BLOCKS == 0
    assert layout.SUMMARY_PAGES * layout.SUMMARY_RUNS * layout.RUN_BLOCKS == layout.ZONE_BLOCKS
    assert layout.COUNT_PAGES * layout.GROUP_BLOCKS == layout.ZONE_BLOCKS
    assert layout.CSUM_PAGES * layout.CSUM_BLOCKS >= layout.ZONE_BLOCKS


def test_payloads_fit_their_pages() -> None:
    room = layout.BLOCK_BYTES - layout.PAGE_HEADER_BYTES
    assert room >= layout.NODE_ENTRIES * layout.NODE_ENTRY_BYTES
    assert room >= layout.GROUP_BLOCKS * layout.COUNT_BYTES
    assert room >= layout.CSUM_BLOCKS * layout.CSUM_BYTES
    assert room >= layout.SUMMARY_RUNS * layout.SUMMARY_BYTES
    assert room >= layout.SLOTS_PER_PAGE * layout.SLOT_BYTES
    assert room >= layout.DIRECTORY_ENTRIES * layout.DIRECTORY_ENTRY_BYTES
    assert room >= layout.PENDING_ITEMS * layout.PENDING_ITEM_BYTES
    for zones in (f"| {layout.SUMMARY_START}..", f"| {layout.COUNT_START}..", f"| {layout.CSUM_START}..", "| 2560.. |"):
        assert zones in DOC
