"""The cimports of `core`: no circle of modules, no arrow between rooms that the architecture page lacks."""

from __future__ import annotations

import re
from pathlib import Path

from tests.structure.test_architecture import circles

ROOT = Path(__file__).parents[2]
CIMPORT = re.compile(r"^(?:from (core[\w.]*) cimport (\((?:[^)]|\n)*\)|[^\n]*)|include \"([^\"]+)\")", re.MULTILINE)


def sources() -> dict[str, list[Path]]:
    """Dotted name of a native module -> its files (.pyx, .pxd)."""
    found: dict[str, list[Path]] = {}
    for path in sorted((ROOT / "core").rglob("*.p*")):
        if path.suffix in (".pyx", ".pxd"):
            found.setdefault(".".join(path.relative_to(ROOT).with_suffix("").parts), []).append(path)
    return found


def graph() -> dict[str, set[str]]:
    """Each native module and those it cimports."""
    known = sources()
    edges: dict[str, set[str]] = {}
    for name, paths in known.items():
        text = "\n".join(path.read_text() for path in paths)
        for package, names, _ in CIMPORT.findall(text):
            if package in known:
                edges.setdefault(name, set()).add(package)
            else:
                whole = {f"{package}.{one}" for one in re.findall(r"\w+", names)}
                edges.setdefault(name, set()).update(whole & known.keys())
    return {name: others - {name} for name, others in edges.items()}


def rooms() -> dict[str, set[str]]:
    """The table of docs/architecture.md: a room of core, and the rooms that it may import."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    body = page.split("## The modules of the block core", 1)[1].split("| module | what |", 1)[0]
    table = re.findall(r"^\| `(core/[^`]+)` \|([^|]*)\|", body, re.MULTILINE)
    return {room: set(re.findall(r"`([^`]+)`", allowed)) for room, allowed in table}


def room_of(module: str, table: dict[str, set[str]]) -> str | None:
    path = module.replace(".", "/")
    return next((room for room in table if path == room or path.startswith(room + "/")), None)


def test_core_has_no_circle():
    assert len(graph()) > 60
    assert circles(graph()) == []
    assert circles(rooms()) == []


def test_arrows_between_rooms_of_core_point_downwards():
    table = rooms()
    assert len(table) > 8
    for module, others in graph().items():
        room = room_of(module, table)
        for other in others:
            there = room_of(other, table)
            if room and there and there != room:
                assert there in table[room], f"{module} cimports {other}: {room} may not import {there}"


def test_every_allowed_arrow_of_core_is_used():
    table = rooms()
    used = {(room_of(module, table), room_of(other, table)) for module, others in graph().items() for other in others}
    assert {(room, other) for room, allowed in table.items() for other in allowed} - used == set()


def test_every_room_says_what_it_is_for():
    for room in rooms():
        folder = ROOT / room
        if folder.is_dir():
            text = (folder / "__init__.py").read_text()
            assert (text.startswith('"""') and "ay import" in text) or "mports nothing" in text, room


MOST_LINES = 70
BEGINS = re.compile(r"^( {0,4})(?:cdef|cpdef|def) [^=]*?(\w+)\(", re.MULTILINE)


def functions(text: str) -> dict[str, int]:
    """Each function of a module's text, of its classes, too, and its lines."""
    found: dict[str, int] = {}
    lines = text.splitlines()
    for number, line in enumerate(lines):
        begins = BEGINS.match(line)
        if begins is None or line.startswith(("cdef struct", "cdef extern", "cdef class", "cdef enum", "cdef union")):
            continue
        end = number + 1
        while end < len(lines) and (not lines[end].strip() or len(lines[end]) - len(lines[end].lstrip()) > len(begins[1])):
            end += 1
        while not lines[end - 1].strip():
            end -= 1
        if end > number + 1:
            found[begins[2]] = max(found.get(begins[2], 0), end - number)
    return found


def test_native_modules_stay_short():
    """A module has at most 600 lines: more is two nouns."""
    long = {path.relative_to(ROOT).as_posix(): lines for path in sorted((ROOT / "core").rglob("*.p*"))
            if path.suffix in (".py", ".pyx", ".pxd") and (lines := len(path.read_text().splitlines())) > 600}
    assert long == {}


def test_functions_of_native_modules_stay_short():
    """A function has at most 70 lines: more is two things."""
    long: dict[str, set[str]] = {}
    for path in sorted([*(ROOT / "core").rglob("*.pyx"), *(ROOT / "core").rglob("*.pxi"), *(ROOT / "bench").rglob("*.pyx")]):
        for name, lines in functions(path.read_text()).items():
            if lines > MOST_LINES:
                long.setdefault(path.relative_to(ROOT).as_posix(), set()).add(name)
    assert long == {}


def test_a_long_function_is_found():
    text = "cdef int short(int x) noexcept:\n    return x\n\n\ncdef class Owner:\n    def long(self,\n             x):\n"
    text += "        x\n" * 80
    assert functions(text) == {"short": 2, "long": 82}


def test_memory_is_asked_for_in_one_place():
    asks = re.compile(r"\b(?:[mc]alloc|realloc\w*|aligned_alloc|posix_memalign|strdup|lnt_alloc_aligned|Py\w+_\w*[Aa]lloc)\b")
    found = []
    for path in sorted((ROOT / "core").rglob("*")):
        if path.suffix not in (".pyx", ".pxd", ".pxi", ".h") or path.name == "memory.pyx":
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if asks.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    assert found == []
