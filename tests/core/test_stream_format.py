"""docs/stream-format.md and core/stream/layout.py say the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from core.stream import layout

DOC = (Path(__file__).parents[2] / "docs" / "stream-format.md").read_text()
YES = {True: "yes", False: "no"}


def rows(title: str) -> list[list[str]]:
    """The rows of the first table under a heading, without its head."""
    body = re.split(rf"^##+ {title}\n", DOC, flags=re.MULTILINE)[1]
    table = re.search(r"(?:^\|.*\n)+", body, re.MULTILINE)
    assert table is not None
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[0].splitlines()[2:]]


@pytest.mark.parametrize(("title", "fields"), [("Header", layout.HEADER), ("EXTENTS", layout.EXTENT), ("END", layout.END)])
def test_the_document_holds_every_field(title, fields):
    assert rows(title) == [[str(f.offset), str(f.size), f.name, f.meaning] for f in fields]


@pytest.mark.parametrize(("fields", "most"), [(layout.HEADER, layout.HEADER_BYTES), (layout.EXTENT, layout.EXTENT_BYTES),
                                              (layout.END, layout.END_BYTES)])
def test_fields_follow_each_other(fields, most):
    ends = [0, *(f.offset + f.size for f in fields)]
    assert [f.offset for f in fields] == ends[:-1]
    assert ends[-1] <= most


def test_types_and_what_they_use_are_documented():
    assert [row[:6] for row in rows("Types")] == [
        [name, str(layout.TYPES[name]), *(YES[each] for each in uses[:3]), str(uses[3])] for name, uses in layout.USES.items()]
    assert layout.USES.keys() == layout.TYPES.keys()


def test_flags_order_and_errors_are_documented():
    assert [row[:2] for row in rows("Flags")] == [[name, str(bit)] for name, bit in layout.FLAGS.items()]
    assert rows("Order") == [[state, name, after] for (state, name), after in layout.ORDER.items()]
    assert rows("Errors") == [list(each) for each in layout.ERRORS[1:]]
    assert f"{layout.MAX_BODY_BYTES:,} bytes" in DOC
    assert f"{layout.MARK_BYTES >> 20} MiB" in DOC
