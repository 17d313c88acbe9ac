"""The imports of `target`, late ones and those for types counted: no circle, no arrow that the architecture page lacks; sizes."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
MOST_LINES = 600    # of a module: more is two concepts


def modules() -> dict[str, Path]:
    """Every module of `target` and `core` by its dotted name; a package is its `__init__`."""
    found = {}
    for path in sorted([*(ROOT / "target").rglob("*.py"), *(ROOT / "core").rglob("*.py*")]):
        if path.suffix in (".py", ".pyx"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(path: Path, known: dict[str, Path]) -> set[str]:
    """The modules that a Python file names in any import statement of it, wherever it stands."""
    named = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            named |= {name if name in known else node.module or "" for name in whole}
    return named & known.keys()


def graph() -> dict[str, set[str]]:
    known = modules()
    return {name: imports_of(path, known) - {name} for name, path in known.items() if name.startswith("target")}


def circles(edges: dict[str, set[str]]) -> list[frozenset[str]]:
    """The strongly connected sets of more than one module (Tarjan)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[frozenset[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(edges.get(node, ())):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            at = stack.index(node)
            group = frozenset(stack[at:])
            del stack[at:]
            if len(group) > 1:
                found.append(group)

    for node in sorted(edges):
        if node not in index:
            visit(node)
    return found


def rooms() -> dict[str, set[str]]:
    """The table of docs/architecture.md: a room, and the rooms that it may import."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    body = page.split("## Imports run downwards", 1)[1].split("\n## ", 1)[0]
    table = re.findall(r"^\| `([^`]+)` \|([^|]*)\|", body, re.MULTILINE)
    return {room: set(re.findall(r"`([^`]+)`", allowed)) for room, allowed in table}


def room_of(module: str, known: dict[str, set[str]]) -> str:
    """The room with the longest name that holds a module."""
    path = module.replace(".", "/")
    return max((room for room in known if path == room or path.startswith(room + "/")), key=len)


def test_there_is_no_circle():
    assert circles(graph()) == []


def test_a_circle_is_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [frozenset("abc")]


def test_every_arrow_between_rooms_is_in_the_architecture_page():
    table = rooms()
    assert len(table) > 5
    for module, imported in graph().items():
        room = room_of(module, table)
        for other in imported:
            there = room_of(other, table)
            assert there == room or there in table[room], f"{module} imports {other}: {room} may not import {there}"


def test_core_never_imports_target():
    files = [path for path in (ROOT / "core").rglob("*.p[xy]*") if path.suffix != ".pyc"]
    lines = [line for path in files for line in path.read_text().splitlines()]
    assert len(lines) > 5000
    assert not [line for line in lines if re.match(r"\s*(from|import|cimport) target\b", line)]


def test_the_architecture_page_allows_no_circle_of_rooms():
    assert circles(rooms()) == []


def test_every_allowed_arrow_is_used():
    table = rooms()
    used = {(room_of(module, table), room_of(other, table)) for module, imported in graph().items() for other in imported}
    unused = {(room, other) for room, allowed in table.items() for other in allowed if room != "core"} - used
    assert unused == set()


def test_modules_stay_short():
    long = {name: lines for name, path in modules().items() if name.startswith("target")
            if (lines := len(path.read_text().splitlines())) > MOST_LINES}
    assert long == {}


def test_every_package_says_what_it_may_import():
    """Its first lines tell what it is for; of the server's rooms, which others they may import."""
    packages = {path.parent.relative_to(ROOT).as_posix(): ast.get_docstring(ast.parse(path.read_text())) or ""
                for path in (ROOT / "target").rglob("__init__.py")}
    table = rooms()
    assert all(packages.values())
    for room in packages.keys() & table.keys():
        if room.startswith("target/server/"):
            others = {each.rpartition("/")[2] for each in table[room] & packages.keys() if each.startswith("target/server/")}
            assert set(re.findall(r"`(\w+)`", packages[room])) == others


def test_functions_stay_short():
    """A function has at most 70 lines: more is two things."""
    for path in modules().values():
        if path.suffix == ".py":
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    assert (node.end_lineno or 0) - node.lineno < 70, f"{path}: {node.name}"
