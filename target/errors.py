"""Errors of the control plane: one exception, one table from code to HTTP status; messages are one line for people."""

from __future__ import annotations

# code -> HTTP status of the management API. The pool's own codes (core.errors) are among them.
HTTP_STATUS: dict[str, int] = {
    "invalid": 400, "range": 400, "foreign": 400, "newer": 400,
    "unauthenticated": 401,
    "protected": 403, "forbidden": 403,
    "not_found": 404, "gone": 404,
    "exists": 409, "busy": 409, "in_use": 409, "needs_force": 409, "held": 409, "locked": 409, "limit": 409, "read_only": 409,
    "no_space": 409,
    "method": 405,
    "too_large": 413,
    "damaged": 500, "io_read": 500, "io_write": 500, "checksum": 500, "internal": 500,
    "closed": 503, "aborted": 503, "unreachable": 503, "no_memory": 503,
}


class LunetteError(Exception):
    """A refused or failed request: `code` is a key of HTTP_STATUS, `str(error)` one clear line."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.status: int | None = None      # other than its code's

    @property
    def http_status(self) -> int:
        return self.status or HTTP_STATUS.get(self.code, 500)

    def as_json(self) -> dict[str, dict[str, str]]:
        """The body of an API error."""
        return {"error": {"code": self.code, "message": str(self)}}
