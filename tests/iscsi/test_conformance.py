"""docs/protocol-conformance.md says what the iSCSI tables say, and every test it cites is there."""

import ast
from pathlib import Path

from target.iscsi.codes import LoginStatus
from target.iscsi.pdu import PDU_TYPES
from tests.support import iscsi_conformance

TESTS = Path(__file__).parents[1]


def test_the_document_is_up_to_date():
    assert iscsi_conformance.render() in iscsi_conformance.DOCUMENT.read_text(), (
        "run python -m tests.support.iscsi_conformance"
    )


def test_every_pdu_and_status_is_spoken_for():
    assert set(iscsi_conformance.PDUS) == set(PDU_TYPES)
    assert set(iscsi_conformance.STATUSES) == set(LoginStatus)


def test_every_cited_test_exists():
    for reference in sorted(iscsi_conformance.references()):
        path, name = reference.split("::")
        functions = {
            node.name for node in ast.walk(ast.parse((TESTS / path).read_text())) if isinstance(node, ast.FunctionDef)
        }
        assert name in functions, reference
