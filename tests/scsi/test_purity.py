"""The SCSI layer performs no I/O: it imports neither the core nor iSCSI nor an event loop, sockets or files."""

from __future__ import annotations

import ast
from pathlib import Path

import target.scsi

ALLOWED = {"__future__", "collections", "dataclasses", "enum", "itertools", "json", "logging", "secrets", "struct", "typing"}


def test_imports() -> None:
    modules = sorted(Path(target.scsi.__file__ or "").parent.rglob("*.py"))
    assert len(modules) > 20
    for path in modules:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0
                names = [node.module or ""]
            for name in names:
                assert name.split(".")[0] in ALLOWED or name.startswith("target.scsi"), f"{path.name} imports {name}"
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id != "open", path.name
