"""A device in memory: sparse pages, a journal of nothing, no failures. For tests that are not about crashes."""

from __future__ import annotations


class MemoryDevice:
    """core.device.Device over a dict of 4 KiB pages."""

    def __init__(self, size_bytes: int, cache_token: bytes = b"memory") -> None:
        self.size_bytes = size_bytes
        self.cache_token = cache_token
        self.pages: dict[int, bytes] = {}
        self.syncs = 0
        self.written_bytes = 0

    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        first, skip = divmod(offset_bytes, 4096)
        last = (offset_bytes + length_bytes + 4095) // 4096
        raw = b"".join(self.pages.get(i, bytes(4096)) for i in range(first, last))
        return raw[skip : skip + length_bytes]

    def write(self, offset_bytes: int, data: bytes) -> None:
        self.written_bytes += len(data)
        at = 0
        while at < len(data):
            page, skip = divmod(offset_bytes + at, 4096)
            n = min(4096 - skip, len(data) - at)
            old = self.pages.get(page, bytes(4096))
            self.pages[page] = old[:skip] + data[at : at + n] + old[skip + n :]
            at += n

    def discard(self, offset_bytes: int, length_bytes: int) -> None:
        for page in range(offset_bytes // 4096, (offset_bytes + length_bytes) // 4096):
            self.pages.pop(page, None)

    def sync(self) -> None:
        self.syncs += 1

    def close(self) -> None:
        pass
