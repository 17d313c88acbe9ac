"""What a pool is known by: giving a copy an identity of its own, and noticing that this machine serves one identity twice.

A pool's identity names the pool, its target's ports and, with each object's slot, the serials and device identifiers of its LUNs
(docs/operations.md, Copies).
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import struct
import time
from typing import Any

from core import layout
from core.errors import PoolError
from target.config import target_name
from target.errors import LunetteError
from target.volumes.owner import look, open_device, open_owned

POOL_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,62}")
OWN_SUFFIX = re.compile(r"-[0-9a-f]{8}$")       # what names get that nobody chose
ANSWER_SECONDS = 1.0
WAIT_SECONDS = 2.0                              # for the kernel to take down what a process that was killed had open
UCRED = struct.Struct("iII")


def checked_name(name: str) -> str:
    """The name, if it can be part of an iSCSI name. LunetteError invalid."""
    if not POOL_NAME.fullmatch(name):
        raise LunetteError("invalid", f"{name!r} cannot be part of an iSCSI name: lower-case letters, digits, . and -, "
                                      "63 at most; --name gives another")
    return name


def new_identity(path: str | os.PathLike[str], *, name: str = "", takeover: bool = False) -> dict[str, str]:
    """Give a pool that nobody serves a new identity and a name, in one atomic change; what it then goes by.

    Without `name` the old one, with eight digits of the identity. LunetteError: locked, foreign, newer, damaged, invalid.
    """
    from core.pool.engine import Pool

    if name:
        checked_name(name)
    identity = os.urandom(16)
    device = open_owned(path, takeover=takeover)
    try:
        before = _facts(Pool.superblock(device))
        chosen = name or f"{OWN_SUFFIX.sub('', before['name'])[:54]}-{identity.hex()[:8]}"
        Pool.identify(device, identity=identity, name=chosen)
        return _facts(Pool.superblock(device))
    except PoolError as error:
        raise LunetteError(error.code, f"{os.fspath(path)}: {error}") from None
    except OSError as error:
        raise LunetteError("io_write", f"{os.fspath(path)} cannot be written: {error.strerror or error}") from None
    finally:
        device.close()


def describe_pool(path: str | os.PathLike[str]) -> dict[str, Any]:
    """A pool's name, identity, size and owner, from its medium and without opening it. LunetteError."""
    from core.pool.engine import Pool

    try:
        device = open_device(path, read_only=True, lock=False)
        try:
            facts: dict[str, Any] = _facts(Pool.superblock(device))
            try:
                facts["owner"] = look(device) or "nobody"
            except LunetteError as error:
                facts["owner"] = str(error).partition(" is in use: ")[2] or str(error)
            return facts
        finally:
            device.close()
    except PoolError as error:
        raise LunetteError(error.code, f"{os.fspath(path)}: {error}") from None
    except OSError as error:
        raise LunetteError("io_read", f"{os.fspath(path)} cannot be read: {error.strerror or error}") from None


def _facts(superblock: bytes) -> dict[str, Any]:
    fields = {field.name: superblock[field.offset:field.offset + field.size] for field in layout.SUPERBLOCK}
    name = fields["name"].rstrip(b"\0").decode(errors="replace")
    identity = fields["identity"] if any(fields["identity"]) else fields["uuid"]
    return {"name": name, "uuid": identity.hex(), "target": target_name(name),
            "size_bytes": int.from_bytes(fields["total_blocks"], "little") * layout.BLOCK_BYTES}


class Presence:
    """An identity served by this process, seen by every other on this machine (in its network namespace) until it ends.

    An abstract Unix socket: it needs no place, and no process that was killed leaves one behind. Whoever connects is sent a byte
    (`answer`, when the socket is readable), which tells a process that lives from one that is stopped.
    """

    def __init__(self, identity: bytes) -> None:
        """`other` is the process that serves the same identity, 0: one that cannot be seen from here, None: there is none."""
        self.other: int | None = None
        self.answered = False               # the other one did
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        self._address = b"\0lunette/pool/" + identity.hex().encode()
        give_up = time.monotonic() + WAIT_SECONDS
        while not self._bind():
            self.other = self._peer()
            if self.other is not None or time.monotonic() > give_up:
                return
            time.sleep(WAIT_SECONDS / 50)

    def fileno(self) -> int:
        return self._socket.fileno()

    def answer(self) -> None:
        """Tell who has connected that somebody is here."""
        with contextlib.suppress(OSError):
            other, _ = self._socket.accept()
            with other:
                other.send(b".", socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

    def close(self) -> None:
        self._socket.close()

    def _bind(self) -> bool:
        try:
            self._socket.bind(self._address)
            self._socket.listen(128)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return False
        return True

    def _peer(self) -> int | None:
        """Who listens there."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(ANSWER_SECONDS)
            try:
                probe.connect(self._address)
            except TimeoutError:
                return 0                    # it has not answered many others who asked
            except OSError:
                return None                 # it is going
            pid: int = UCRED.unpack(probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, UCRED.size))[0]
            with contextlib.suppress(OSError):
                self.answered = bool(probe.recv(1))
            return pid
