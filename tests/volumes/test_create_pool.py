"""Making a pool where it cannot be written: one error, and nothing is left of it (docs/operations.md)."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from core.device import FileDevice
from target.errors import LunetteError
from target.volumes.gateway import create_pool, open_pool


@pytest.mark.parametrize("failing", ["write", "sync"])
def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(FileDevice, failing, full)
    path = tmp_path / "pool"
    with pytest.raises(LunetteError, match=f"cannot write {path}: No space left on device"):
        create_pool(path, name="p", size_bytes=64 << 20)
    assert not path.exists()


def test_a_limit_of_file_sizes_is_said_in_the_units_of_listings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create_pool(tmp_path / "pool", name="p", size_bytes=64 << 20)
    monkeypatch.setattr("resource.getrlimit", lambda which: (20 << 20, 20 << 20))
    with pytest.raises(LunetteError, match=r"pool: it has 64M, but this process may write files of 20M only"):
        open_pool(tmp_path / "pool", cache_bytes=1 << 20)
