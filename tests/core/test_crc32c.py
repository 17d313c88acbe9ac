"""CRC32C against the vectors of RFC 3720 appendix B.4 and a bitwise reference."""

from hypothesis import given
from hypothesis import strategies as st

from core.base.crc32c import crc32c, crc32c_portable

VECTORS = [
    (bytes(32), 0x8A9136AA),
    (b"\xff" * 32, 0x62A8AB43),
    (bytes(range(32)), 0x46DD794E),
    (bytes(range(31, -1, -1)), 0x113FDB5C),
    (bytes.fromhex("01c00000000000000000000000000000140000000000040000000014"
                   "0000001828000000000000000200000000000000"),
     0xD9963A56),
    (b"123456789", 0xE3069283),
    (b"", 0),
]


def reference(data: bytes, crc: int = 0) -> int:
    crc ^= 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def test_published_vectors() -> None:
    for data, want in VECTORS:
        assert crc32c(data) == want
        assert crc32c_portable(data) == want


@given(st.binary(max_size=300))
def test_agrees_with_the_bitwise_definition(data: bytes) -> None:
    assert crc32c(data) == crc32c_portable(data) == reference(data)


def test_every_length_around_the_interleaved_blocks() -> None:
    data = bytes((i * 131 + i // 7) & 255 for i in range(13000))
    for base in (0, 8, 168 * 3, 1360 * 3, 1360 * 3 + 168 * 3, 1360 * 6, 12288):
        for n in range(max(0, base - 10), base + 18):
            assert crc32c(data[:n]) == crc32c_portable(data[:n]), n
            assert crc32c(memoryview(data)[3 : 3 + n]) == crc32c_portable(data[3 : 3 + n]), n


@given(st.binary(max_size=6000), st.integers(0, 6000))
def test_continues_from_a_seed(data: bytes, cut: int) -> None:
    assert crc32c(data[cut:], crc32c(data[:cut])) == crc32c(data)
