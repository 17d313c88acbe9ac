"""docs/protocol-conformance.md says what the SCSI tables say, and every test it cites is there."""

from __future__ import annotations

import ast
from pathlib import Path

from target.scsi import vpd
from target.scsi.unit_attention import UnitAttention
from tests.support import scsi_conformance

TESTS = Path(__file__).parents[1]


def test_the_document_is_up_to_date() -> None:
    assert scsi_conformance.render() in scsi_conformance.DOCUMENT.read_text(), (
        "run python -m tests.support.scsi_conformance")


def test_every_page_and_attention_is_spoken_for() -> None:
    assert set(scsi_conformance.VPD_PAGES) == set(vpd.PAGES)
    assert set(scsi_conformance.ATTENTIONS) == set(UnitAttention)


def test_every_cited_test_exists() -> None:
    for reference in sorted(scsi_conformance.references()):
        path, name = reference.split("::")
        tree = ast.parse((TESTS / path).read_text())
        assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}, reference
