"""CRC32C (Castagnoli): iSCSI digests (RFC 7143 §13.1) and the pool's checksums."""

from typing_extensions import Buffer

def crc32c(data: Buffer, seed: int = 0) -> int:
    """Finalised CRC32C of `data`; pass a former result as `seed` to continue it."""

def crc32c_portable(data: Buffer, seed: int = 0) -> int:
    """The same without special instructions (what machines without SSE4.2 run)."""
