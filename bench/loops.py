"""Loop devices of the bench: a block device, or an XFS, in a file. Root makes them; else TargetError says what is missing."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.targets import MIB, TargetError


def ask(*command: str) -> str:
    """What a tool prints; its refusal is one line."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise TargetError(f"there is no {command[0]}") from None
    if done.returncode:
        raise TargetError(f"{command[0]}: {(done.stderr.strip() or '?').splitlines()[-1]}")
    return done.stdout.strip()


@contextmanager
def device(path: Path, size_mib: int) -> Iterator[Path]:
    """A loop device over a new, sparse file, whose own page cache it passes by."""
    with path.open("wb") as made:
        made.truncate(size_mib * MIB)
    found = ask("losetup", "--find", "--show", "--direct-io=on", str(path))
    try:
        yield Path(found)
    finally:
        ask("losetup", "--detach", found)
        path.unlink()


@contextmanager
def xfs(directory: Path, size_mib: int) -> Iterator[Path]:
    """A new XFS in a file of `directory`, mounted there."""
    where = directory / f"xfs-{os.getpid()}"
    with device(where.with_suffix(".img"), size_mib) as found:
        ask("mkfs.xfs", "-q", str(found))
        where.mkdir()
        ask("mount", str(found), str(where))
        try:
            yield where
        finally:
            ask("umount", str(where))
            where.rmdir()
