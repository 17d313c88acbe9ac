"""Making a pool where it cannot be written: one error, and nothing is left of it (docs/operations.md)."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from core.device import FileDevice
from target.errors import LunetteError
from target.volumes.gateway import create_pool


@pytest.mark.parametrize("failing", ["write", "sync"])
def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(FileDevice, failing, full)
    path = tmp_path / "pool"
    with pytest.raises(LunetteError, match=f"cannot write {path}: No space left on device"):
        create_pool(path, name="p", size_bytes=64 << 20)
    assert not path.exists()
