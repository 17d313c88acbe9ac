"""PDUs out of a byte stream, with bounded memory and digests checked (RFC 7143 §11.2, §7.8)."""

from target.iscsi.codes import BHS_SIZE_BYTES
from target.iscsi.digest import DIGEST_SIZE_BYTES, Crc32c, crc32c, digest
from target.iscsi.pdu import RawPdu


class FramingError(ValueError):
    """The stream cannot be split into PDUs any more: only closing the connection helps."""


class PduReader:
    """Cuts received bytes into PDUs. `feed` bytes, then take PDUs with `next_pdu` until it returns None.

    Lengths are checked as soon as a header is in: what is held after the last `next_pdu` is less than one PDU of the
    allowed size. Limits and digests may be changed between two PDUs.
    """

    def __init__(
        self,
        *,
        max_data_segment_bytes: int,
        header_digest: bool = False,
        data_digest: bool = False,
        crc: Crc32c = crc32c,
    ) -> None:
        self.max_data_segment_bytes = max_data_segment_bytes
        self.header_digest = header_digest
        self.data_digest = data_digest
        self._crc = crc
        self._buffer = bytearray()

    def __len__(self) -> int:
        return len(self._buffer)

    def feed(self, data: bytes) -> None:
        """Append received bytes."""
        self._buffer += data

    def take_rest(self) -> bytes:
        """Everything not yet cut into PDUs; the reader is empty after this."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        return rest

    def peek_header(self) -> bytes:
        """What is there of the next basic header segment, 0 to 48 bytes of it."""
        return bytes(self._buffer[:BHS_SIZE_BYTES])

    def next_pdu(self) -> RawPdu | None:
        """The next whole PDU, or None until more bytes come. FramingError if the stream is lost."""
        buffer = self._buffer
        if len(buffer) < BHS_SIZE_BYTES:
            return None
        ahs_bytes, data_bytes = buffer[4] * 4, int.from_bytes(buffer[5:8])
        if data_bytes > self.max_data_segment_bytes:
            raise FramingError(f"data segment of {data_bytes} bytes, {self.max_data_segment_bytes} allowed")
        head_end = BHS_SIZE_BYTES + ahs_bytes
        data_start = head_end + (DIGEST_SIZE_BYTES if self.header_digest else 0)
        padded_end = data_start + data_bytes + (-data_bytes % 4)
        has_data_digest = self.data_digest and data_bytes > 0
        end = padded_end + (DIGEST_SIZE_BYTES if has_data_digest else 0)
        if len(buffer) < end:
            return None
        whole = bytes(buffer[:end])
        if self.header_digest and whole[head_end:data_start] != digest(whole[:head_end], self._crc):
            raise FramingError("header digest error")
        data_ok = not has_data_digest or whole[padded_end:end] == digest(whole[data_start:padded_end], self._crc)
        del buffer[:end]
        return RawPdu(
            whole[:BHS_SIZE_BYTES], whole[BHS_SIZE_BYTES:head_end], whole[data_start : data_start + data_bytes], data_ok
        )
