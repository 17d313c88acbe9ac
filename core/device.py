"""The device seam seen from Python: read, write, discard, sync, size. Five methods are all a medium needs."""

from __future__ import annotations

import fcntl
import os
import stat
from typing import Protocol

from core.errors import PoolError


class Device(Protocol):
    """What a pool lives on. Offsets and lengths are bytes, multiples of 512. A failure raises OSError.

    `write` is durable only after a later `sync` returns; `discard` leaves zeros or the old bytes.
    `cache_token` names the life of the page cache above the medium (boot and mount): equal tokens mean
    that writes which were completed but not synced are still visible. Empty: they never are.
    """

    size_bytes: int
    cache_token: bytes

    def read(self, offset_bytes: int, length_bytes: int) -> bytes: ...
    def write(self, offset_bytes: int, data: bytes) -> None: ...
    def discard(self, offset_bytes: int, length_bytes: int) -> None: ...
    def sync(self) -> None: ...
    def close(self) -> None: ...
