"""FileDevice: locking, the cache token, holes and direct I/O on a real file (core/device.py)."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from core.device import FileDevice, create_file
from core.errors import PoolError


def make(tmp_path: Path, size_bytes: int = 1 << 20) -> Path:
    path = tmp_path / "pool"
    create_file(path, size_bytes)
    return path


@pytest.mark.parametrize("direct", [False, True])
def test_reads_what_was_written_at_any_512_byte_offset(tmp_path: Path, direct: bool) -> None:
    path = make(tmp_path)
    try:
        device = FileDevice(path, direct=direct)
        device.read(0, 4096)
    except (PoolError, OSError):
        pytest.skip("this file system has no O_DIRECT")
    device.write(0, b"a" * 8192)
    device.write(512, b"b" * 4096)
    device.sync()
    assert device.read(0, 8192) == b"a" * 512 + b"b" * 4096 + b"a" * 3584
    assert device.read(512, 512) == b"b" * 512
    device.close()


def test_second_opener_is_refused_while_the_first_lives(tmp_path: Path) -> None:
    path = make(tmp_path)
    first = FileDevice(path)
    with pytest.raises(PoolError) as refused:
        FileDevice(path, read_only=True)
    assert refused.value.code == "locked"
    first.close()
    FileDevice(path).close()


def test_discard_leaves_a_hole_that_reads_as_zeros(tmp_path: Path) -> None:
    path = make(tmp_path)
    device = FileDevice(path)
    device.write(0, b"x" * (1 << 20))
    device.sync()
    before = path.stat().st_blocks
    device.discard(4096, (1 << 20) - 4096)
    device.sync()
    assert path.stat().st_blocks < before
    assert device.read(0, 8192) == b"x" * 4096 + bytes(4096)
    device.close()


def test_token_is_equal_for_one_file_and_differs_between_files(tmp_path: Path) -> None:
    path = make(tmp_path)
    other = tmp_path / "other"
    create_file(other, 4096)
    tokens = []
    for which, direct in ((path, False), (path, True), (other, False)):    # what was written is seen either way
        try:
            device = FileDevice(which, direct=direct)
        except PoolError:
            pytest.skip("no O_DIRECT on this file system")
        tokens.append(device.cache_token)
        device.close()
    if not tokens[0]:
        pytest.skip("the kernel tells no unique mount id")
    assert tokens[0] == tokens[1] != tokens[2]


def test_create_never_overwrites(tmp_path: Path) -> None:
    path = make(tmp_path)
    with pytest.raises(PoolError) as refused:
        create_file(path, 10)
    assert refused.value.code == "exists"
    assert path.stat().st_size == 1 << 20


def test_what_is_no_file_is_refused_in_one_line(tmp_path: Path) -> None:
    for path, code in ((tmp_path / "absent", "not_found"), (tmp_path, "io_read")):
        with pytest.raises(PoolError) as refused:
            FileDevice(path)
        assert refused.value.code == code
        assert "\n" not in str(refused.value)


def test_enlarge_grows_a_file_and_never_shrinks_it(tmp_path: Path) -> None:
    device = FileDevice(make(tmp_path))
    device.enlarge(4 << 20)
    assert device.size_bytes == 4 << 20
    device.enlarge(1 << 20)
    assert device.size_bytes == 4 << 20
    device.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files for others")
def test_what_root_makes_in_anothers_directory_is_that_ones(tmp_path: Path) -> None:
    """A pool that `sudo lunette pool create` makes below /var/lib/lunette is opened by the service, which is no root."""
    os.chown(tmp_path, 12345, 12346)
    create_file(tmp_path / "pool", 4096)
    made = (tmp_path / "pool").stat()
    assert (made.st_uid, made.st_gid, made.st_mode & 0o777) == (12345, 12346, 0o600)


def test_who_may_not_open_a_pool_is_told_whose_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create_file(tmp_path / "pool", 4096)

    def refused(path: object, flags: int) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("core.device.os.open", refused)
    with pytest.raises(PoolError, match=f"Permission denied; it is the user {(tmp_path / 'pool').owner()}'s$"):
        FileDevice(tmp_path / "pool")
