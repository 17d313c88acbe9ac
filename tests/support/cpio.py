"""The archive that the kernel unpacks as its first root file system, and nothing else.

cpio's `newc` form, as the kernel says in Documentation/driver-api/early-userspace/buffer-format.rst. All is owned by root.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO


class Archive:
    """An archive being written; each path once."""

    def __init__(self, file: BinaryIO) -> None:
        self._write = file.write
        self._seen: set[Path] = set()

    def add_with_parents(self, path: Path, root: Path) -> None:
        """A file, link or directory of the tree, after the directories it lies in."""
        for parent in reversed(path.parents[:-1]):
            self._add(parent, root)
        self._add(path, root)
        if (root / path).is_symlink():  # and what it points to, if that is in the tree
            target = Path(os.path.normpath("/" / path.parent / os.readlink(root / path))).relative_to("/")
            if os.path.lexists(root / target):
                self.add_with_parents(target, root)

    def _add(self, path: Path, root: Path) -> None:
        status = (root / path).lstat()
        if stat.S_ISLNK(status.st_mode):
            self._entry(path, status.st_mode, os.readlink(root / path).encode())
        elif stat.S_ISDIR(status.st_mode):
            self.directory(path)
        else:
            self.file(path, (root / path).read_bytes(), status.st_mode & 0o777)

    def directory(self, path: Path) -> None:
        for each in [*reversed(path.parents[:-1]), path]:
            self._entry(each, stat.S_IFDIR | 0o755, b"")

    def file(self, path: Path, data: bytes, mode: int) -> None:
        self._entry(path, stat.S_IFREG | mode, data)

    def console(self) -> None:
        """/dev/console, which init has for its output before it has mounted anything."""
        self._entry(Path("dev/console"), stat.S_IFCHR | 0o600, b"", device=(5, 1))

    def end(self) -> None:
        self._entry(Path("TRAILER!!!"), 0, b"")

    def _entry(self, path: Path, mode: int, data: bytes, device: tuple[int, int] = (0, 0)) -> None:
        if path in self._seen:
            return
        self._seen.add(path)
        name = str(path).encode() + b"\0"
        fields = (len(self._seen), mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(name), 0)
        head = b"070701" + b"".join(b"%08X" % each for each in fields) + name
        self._write(head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4))
