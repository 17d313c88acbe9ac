"""CRC32C as the header and data digests use it (RFC 7143 §13.1), slow and plain; a fast one is injected."""

from collections.abc import Callable

Crc32c = Callable[[bytes], int]
"""The CRC32C (Castagnoli) of some bytes: 0xE3069283 for b"123456789". Sent least significant byte first."""

DIGEST_SIZE_BYTES = 4


def _make_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return tuple(table)


_TABLE = _make_table()


def crc32c(data: bytes) -> int:
    """CRC32C of `data`, a byte at a time: good for login and tests, not for the data path."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def digest(data: bytes, crc: Crc32c = crc32c) -> bytes:
    """The four digest bytes as they follow `data` on the wire."""
    return crc(data).to_bytes(DIGEST_SIZE_BYTES, "little")
