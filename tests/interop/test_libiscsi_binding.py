"""The tests' own initiator fits whatever libiscsi is installed: its binding takes every place from the headers."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support import libiscsi_binding

HEADERS = Path("/usr/include/iscsi")


@pytest.mark.needs("libiscsi")
def test_a_header_with_other_places_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = libiscsi_binding.load()
    assert installed is not None
    shutil.copytree(HEADERS, tmp_path / "iscsi")
    changed = tmp_path / "iscsi" / "scsi-lowlevel.h"
    declared = "struct scsi_task {"
    text = changed.read_text()
    assert declared in text
    changed.write_text(text.replace(declared, declared + " char from_a_later_version[64];"))
    monkeypatch.setenv("CPATH", str(tmp_path))
    monkeypatch.setattr(libiscsi_binding, "CACHE", tmp_path / "build")
    later = libiscsi_binding.load()
    assert later is not None
    for field in ("status", "sense", "datain"):
        assert later.ffi.offsetof("struct scsi_task", field) == installed.ffi.offsetof("struct scsi_task", field) + 64


def test_without_headers_there_is_no_binding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libiscsi_binding, "INCLUDES", "#include <iscsi/no-such-header.h>\n")
    monkeypatch.setattr(libiscsi_binding, "CACHE", tmp_path)
    assert libiscsi_binding.load() is None
