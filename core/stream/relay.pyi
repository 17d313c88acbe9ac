"""A relay: one TLS 1.3 connection of which both ends have shown a certificate, and a plain socket that says the same."""

class Relay:
    """All of it belongs to one thread, and to one connection; only `received_bytes` may be looked at from others."""

    received_bytes: int     # from the peer, so far

    def __init__(self, fd: int, plain: int, cancel: int, *, certificate: bytes, key: bytes, server: bool) -> None:
        """`fd` is a connected socket that does not block, `plain` one of a pair; waits end when `cancel` becomes readable.

        `certificate` and `key` (of an elliptic curve) are DER. OSError: they do not fit, or there is no libssl.so.3.
        """

    def handshake(self, seconds: float) -> bytes:
        """The peer's certificate, DER; that it has the key to it is proven. OSError."""

    def run(self) -> None:
        """Carry bytes both ways until both ends have said all, or `cancel` becomes readable. OSError."""
