"""Errors of the block core: one exception type, one code table shared with the native statuses of `core/base/types.pxd`."""

from __future__ import annotations

# lnt_status -> code. The order is the native enum's; a test holds the two together.
STATUS_CODES: tuple[str, ...] = (
    "ok", "io_read", "io_write", "no_space", "read_only", "protected", "range", "gone", "miscompare", "checksum",
    "aborted", "invalid", "exists", "not_found", "busy", "limit", "closed",
    "no_memory",
)


class PoolError(Exception):
    """A refused or failed pool operation; `code` is one of STATUS_CODES or a format error code.

    Format errors (open only): ``foreign`` (not a Lunette pool), ``newer`` (newer format version), ``damaged``,
    ``locked`` (open in another process). `str(error)` is one clear line for people. `value` is the native result
    where one exists (the byte offset of a miscompare).
    """

    def __init__(self, code: str, message: str, value: int = 0) -> None:
        super().__init__(message)
        self.code = code
        self.value = value


def damaged(what: str) -> PoolError:
    """What an open answers that meets damage: `what` is wrong."""
    return PoolError("damaged", f"pool is damaged: {what}")
