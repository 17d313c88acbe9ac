"""What the documents name is there: files, functions, fields, tests, links; every core module has its row."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md")])
CODE = ("core/**/*.py*", "core/**/*.p[xy][di]", "core/**/*.h", "target/**/*.py", "tests/**/*.py", "tests/**/*.sh",
        "bench/**/*.py*", "setup.py", "Makefile", ".ci/*", "pyproject.toml")
CODE_BLOCK = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
BASES = ("", "tests", "docs", "core", "target", "bench")
# Names that are another's: of the kernel, of its tools, of programs that Lunette is measured beside.
FOREIGN = {
    "IOSQE_ASYNC", "MADV_COLLAPSE", "MADV_POPULATE_WRITE", "TCP_MAXSEG", "TCP_WINDOW_CLAMP", "clear_page", "ext4_mb_scan_group",
    "io_poll", "io_uring_enter", "min_timeout", "rps_cpus", "sched_yield", "sync_file_range",
}


def spans(path: Path) -> list[str]:
    """What stands between backticks, code blocks left out."""
    text = re.sub(CODE_BLOCK, "", path.read_text())
    return re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text)


@cache
def words() -> frozenset[str]:
    """Every word of the code, and every name of a file of it."""
    found = {path for pattern in CODE for path in ROOT.glob(pattern) if path.is_file()}
    files = {path for path in found if path.suffix not in (".so", ".c", ".pyc")}
    return frozenset(word for path in files for word in (path.stem, *re.findall(r"\w+", path.read_text())))


def exists(name: str) -> bool:
    return any(any((ROOT / base).glob(name)) for base in BASES)


def unresolved(span: str) -> str | None:
    """The first thing that a span names and that is not there; None when all of it is, or when it names nothing."""
    file = re.fullmatch(r"([\w.*-]+(?:/[\w.*-]+)*\.(?:py|pyx|pxd|pxi|pyi|h|md|sh|json|toml|svg))(?:::(\w+))?", span)
    if file is not None:
        if not exists(file[1]) and not exists(f"**/*{file[1]}"):
            return file[1]
        return file[2] if file[2] and file[2] not in words() else None
    if re.fullmatch(r"(core|target|tests|bench|docs|\.ci)/[\w./*-]*", span):
        return None if exists(span.rstrip("/")) or exists(span + ".[ph]*") else span
    if re.fullmatch(r"[A-Za-z_]\w*(\.\w+)*(\([^()]*\))?", span) and re.search(r"_|[a-z][A-Z]|\(", span):
        names = re.findall(r"\w+", span.split("(")[0])
        return next((name for name in names if name not in words() and name not in FOREIGN), None)
    return None


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_everything_that_a_document_names_is_there(document):
    assert {span: gone for span in spans(document) if (gone := unresolved(span)) is not None} == {}


def block_names(text: str) -> list[str]:
    """Files, tests and compiled functions that the code blocks of a document name, as spans would."""
    found = []
    for block in re.findall(CODE_BLOCK, text):
        found += re.findall(r"[\w./]*\w\.(?:pyx|pxd|py|sh)(?:::\w+)?", block)
        for mangled in re.findall(r"__pyx_f_(\w+)", block):
            parts = []
            while length := re.match(r"_?(\d+)", mangled):
                end = length.end() + int(length[1])
                parts.append(mangled[length.end():end])
                mangled = mangled[end:]
            found += ["/".join(parts) + ".pyx", mangled.removeprefix("_")]
    return [name.removeprefix("./") for name in found]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_everything_that_a_code_block_names_is_there(document):
    assert [gone for name in block_names(document.read_text()) if (gone := unresolved(name)) is not None] == []


def test_a_breakpoint_that_is_nowhere_is_found():
    block = "```\nbreak _no_such.py" + "x:101\nbreak __pyx_f_4core_3log_8no_where_limits_set\n```\n"
    assert [unresolved(name) for name in block_names(block)] == ["_no_such.py" + "x", "core/log/no_where.py" + "x", None]


def test_each_step_of_a_walkthrough_is_in_the_files_of_its_row():
    rows = re.findall(r"^\| [^|]+ \| ([^|]+) \| ([^|]+) \|$", (ROOT / "docs" / "walkthrough.md").read_text(), re.MULTILINE)
    rows = [(re.findall(r"`(\w+)`", names), re.findall(r"`([^`]+)`", files)) for names, files in rows]
    assert sum(len(names) for names, _ in rows) > 40
    lost = [name for names, files in rows for name in names if not any(
        re.search(rf"(def|inline) [^=\n]*\b{name}\(", (ROOT / file).read_text()) for file in files)]
    assert lost == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_leads_to_a_file(document):
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text())
    assert [link for link in links if not (document.parent / link).exists()] == []


def test_a_name_that_is_nowhere_is_found():
    assert unresolved("no_such_name_" + "anywhere") == "no_such_name_" + "anywhere"
    assert unresolved("core/_no_such" + "_module.pyx") == "core/_no_such" + "_module.pyx"
    assert unresolved("core/test_pdu.py::test_no_such" + "_test") == "test_no_such" + "_test"


def test_every_page_is_in_the_index():
    index = (ROOT / "docs" / "README.md").read_text() + (ROOT / "docs" / "decisions" / "README.md").read_text()
    pages = [path for path in (ROOT / "docs").rglob("*.md") if path.name != "README.md"]
    assert [path.name for path in pages if path.name not in index] == []


def test_every_module_of_core_is_in_the_architecture_page():
    page = (ROOT / "docs" / "architecture.md").read_text()
    tables = page.split("## The modules of the block core", 1)[1].split("\n## What metadata costs", 1)[0]
    named = {word for row in re.findall(r"^\| (`[^|]*) \|", tables, re.MULTILINE) for word in re.findall(r"`(\w+)`", row)}
    compiled = {path.stem for path in (ROOT / "core").rglob("*.pyx")}
    declared = {path.stem for path in (ROOT / "core").rglob("*.pxd")}
    assert (compiled | declared) - named == set()
    assert named - compiled - declared == set()


def test_prose_stays_under_120_columns():
    long = []
    for document in DOCUMENTS:
        text = re.sub(CODE_BLOCK, lambda block: "\n" * block[0].count("\n"), document.read_text())
        long += [f"{document.name}:{number}" for number, line in enumerate(text.splitlines(), 1)
                 if len(line) > 120 and not line.startswith("|")]
    assert long == []
