"""The login phase of one connection as a state machine without I/O (RFC 7143 §6.3, §11.12, §11.13)."""

from target.iscsi.events import Closed, LoginComplete, LoginFailed
from target.iscsi.policy import LoginPolicy


class LoginConnection:
    """Feed it what the socket gives, send what it gives back, and call `timeout` when `deadline` passes.

    Once an event came out, the login is over and only `data_to_send` may still be called.
    """

    def __init__(self, policy: LoginPolicy, now: float) -> None:
        self._policy = policy
        self._out = bytearray()
        self._deadline = now + policy.login_timeout_seconds

    @property
    def deadline(self) -> float:
        """When `timeout` is due, on the clock of `now`."""
        return self._deadline

    def receive(self, data: bytes, now: float) -> list[LoginComplete | LoginFailed | Closed]:
        """Take bytes from the peer (b"" is end of file); at most one event comes back."""
        raise NotImplementedError

    def timeout(self, now: float) -> list[LoginComplete | LoginFailed | Closed]:
        """Say that time has passed; Closed comes back when it was too much."""
        return [Closed("login took too long")] if now >= self._deadline else []

    def data_to_send(self) -> bytes:
        """What must go to the peer now; empty when nothing is due."""
        out = bytes(self._out)
        self._out.clear()
        return out
