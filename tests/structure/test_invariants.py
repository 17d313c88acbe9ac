"""The invariants of docs/concurrency.md: where the page says that one is asserted, there it is asserted, and nowhere else."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parents[2]
ASSERTION = re.compile(r"lnt_(?:assert|check)\([^;\"]*\"(I\d+): ")
BEGINS = re.compile(r"^cdef [^=\n]*?(\w+)\(", re.MULTILINE)


def documented() -> dict[str, set[str]]:
    """Invariant -> functions in the last column of its row."""
    page = (ROOT / "docs" / "concurrency.md").read_text()
    table = page.split("## Invariants", 1)[1].split("\n## ", 1)[0]
    rows = [line.strip("|").split("|") for line in table.splitlines() if re.match(r"\| I\d", line)]
    return {cells[0].strip(): set(re.findall(r"`(\w+)`", cells[-1])) for cells in rows}


def asserted() -> dict[str, set[str]]:
    """Invariant -> functions of the core that assert it."""
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / "core").rglob("*.p[yx][xd]")):
        text = path.read_text()
        begins = [(match.start(), match[1]) for match in BEGINS.finditer(text)]
        for match in ASSERTION.finditer(text):
            function = [name for start, name in begins if start < match.start()][-1]
            found.setdefault(match[1], set()).add(function)
    return found


def test_every_invariant_is_asserted_where_the_page_says() -> None:
    assert len(documented()) >= 16
    assert all(documented().values())
    assert asserted() == documented()


def test_what_a_check_looks_up_stands_behind_the_switch() -> None:
    """Cython evaluates an argument before C drops the check: the data path would pay for it."""
    found = []
    for path in sorted((ROOT / "core").rglob("*.p[yx][xd]")):
        lines = path.read_text().splitlines()
        for before, line in pairwise(lines):
            if re.search(r"lnt_check\(.*\w\(.*\"", line) and not re.search(r"if LNT_CHECKS\b", before):
                found.append(f"{path.name}: {line.strip()}")
    assert not found


def test_each_safeguard_is_switched_off_by_a_bit_of_its_own() -> None:
    """Two that share one are never tried alone."""
    text = (ROOT / "core" / "base" / "mutations.pxd").read_text()
    bits = re.findall(r"^    M_\w+ = ([^ #\n]+(?: << \d+)?)", text, re.MULTILINE)
    values = [int(before, 0) << int(shift or 0) for before, _, shift in (value.partition(" << ") for value in bits)]
    assert len(values) > 50
    assert len(set(values)) == len(values)
    assert all(value.bit_count() == 1 for value in values)
