"""docs/tests.md: every module has a row, and whatever a row names is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "tests.md").read_text()
ROWS = [[re.findall(r"`([^`]+)`", cell) for cell in line.split("|")[1:-1]] for line in PAGE.splitlines() if line.startswith("| ")]
NAMED = {module for modules, *_ in ROWS for module in modules}
TESTS = {test for _, *cells in ROWS for cell in cells for test in cell}


def sources() -> set[str]:
    """Modules as the page writes them: those of `core` without a suffix, those of `target` with it."""
    core = {path.relative_to(ROOT).with_suffix("").as_posix() for path in (ROOT / "core").rglob("*.p*")
            if path.suffix in (".py", ".pyx", ".pxd") and path.stem != "__init__"}
    target = {path.relative_to(ROOT).as_posix() for path in (ROOT / "target").rglob("*.py")}
    return core | target


def test_every_module_has_a_row() -> None:
    assert len(sources()) > 300
    bare = {module for module in sources() if not any(module == each or module.startswith(each + "/") for each in NAMED)}
    assert not bare, f"docs/tests.md has no row for {sorted(bare)}"


def test_no_row_names_what_is_not_there() -> None:
    assert len(NAMED) > 120
    known = sources() | {path.relative_to(ROOT).as_posix() for room in ("core", "target") for path in (ROOT / room).rglob("*")
                         if path.is_dir()} | {"core", "target"} | {path.relative_to(ROOT).with_suffix("").as_posix()
                                                                   for path in (ROOT / "core").rglob("*.h")}
    assert not NAMED - known
    assert not {test for test in TESTS if not (ROOT / "tests" / f"{test}.py").is_file()}


def test_no_module_has_two_rows() -> None:
    named = [module for modules, *_ in ROWS for module in modules]
    assert sorted(named) == sorted(set(named))


def test_every_folder_of_tests_is_named() -> None:
    there = {path.parent.relative_to(ROOT / "tests").as_posix() for path in (ROOT / "tests").rglob("test_*.py")}
    assert len(there) > 10
    assert not there - {test.rpartition("/")[0] for test in TESTS}
