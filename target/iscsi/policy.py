"""What this target allows and wants, as its owner tells the sans-I/O code: limits, access, credentials, targets."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from target.iscsi.codes import DEFAULT_PORT, LoginStatus
from target.iscsi.digest import Crc32c, crc32c
from target.iscsi.params import SessionType
from target.iscsi.session import SessionRegistry


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Our side of every negotiation: what we offer, declare or cap with. Lengths are bytes."""

    max_recv_data_segment_length: int = 262144
    max_burst_length: int = 16773120
    """The largest multiple of 4 KiB that the key can say: a transfer split at it stays aligned."""
    first_burst_length: int = 262144
    max_outstanding_r2t: int = 1
    max_connections: int = 4
    error_recovery_level: int = 1
    initial_r2t: bool = False
    immediate_data: bool = True
    data_pdu_in_order: bool = True
    data_sequence_in_order: bool = True
    default_time2wait_seconds: int = 0
    default_time2retain_seconds: int = 0
    header_digest: tuple[str, ...] = ("CRC32C", "None")
    """Allowed values; the initiator's order decides. Without "None" the digest is required."""
    data_digest: tuple[str, ...] = ("CRC32C", "None")
    task_reporting: tuple[str, ...] = ("RFC3720",)
    protocol_level: int = 2
    command_window: int = 128
    """MaxCmdSN - ExpCmdSN + 1 in the last login response."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """CHAP for one host: it proves `secret` under `name`; we prove `mutual_secret`, if set, under `mutual_name`."""

    name: str
    secret: bytes = field(repr=False)
    mutual_name: str = ""
    mutual_secret: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class TargetInfo:
    """The target a login reaches, as seen through the portal it came in by."""

    name: str
    portal_group_tag: int = 1
    alias: str = ""


@dataclass(frozen=True, slots=True)
class Redirect:
    """Send the initiator elsewhere: `address` is `host[:port][,tag]` with IPv6 in brackets (RFC 7143 §13.8)."""

    address: str
    permanent: bool = False


@dataclass(frozen=True, slots=True)
class PortalAddress:
    """One TargetAddress: an IPv4 or IPv6 address or a host name, without brackets."""

    host: str
    port: int = DEFAULT_PORT
    portal_group_tag: int = 1


@dataclass(frozen=True, slots=True)
class TargetRecord:
    """What SendTargets tells of one target."""

    name: str
    addresses: Sequence[PortalAddress]


class Gatekeeper(Protocol):
    """Who may do what. One may serve all connections, or each connection have its own that knows the peer's address."""

    def credentials_for(self, initiator_name: str, session_type: SessionType) -> Credentials | None:
        """CHAP this initiator must pass for such a session, or None when it need not authenticate."""
        ...

    def find_target(self, initiator_name: str, target_name: str) -> TargetInfo | Redirect | LoginStatus:
        """The target a normal login asked for, where else to go, or why not (NOT_FOUND, AUTHORIZATION_FAILURE ...)."""
        ...

    def discovery_portal_group_tag(self) -> int:
        """The portal group tag of the portal a discovery session came in by."""
        ...

    def targets_for(self, initiator_name: str) -> Sequence[TargetRecord]:
        """What SendTargets shows this initiator: only what it may log in to."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginPolicy:
    """Everything a LoginConnection needs to know."""

    gatekeeper: Gatekeeper
    registry: SessionRegistry
    limits: Limits = Limits()
    chap_algorithms: tuple[int, ...] = (8, 7, 6, 5)
    """CHAP_A values allowed: 5 MD5, 6 SHA1, 7 SHA-256, 8 SHA3-256; the initiator's order decides."""
    login_timeout_seconds: float = 15.0
    max_login_pdus: int = 64
    max_login_bytes: int = 262144
    """Bytes of data segments over the whole login."""
    discovery_idle_seconds: float = 30.0
    discovery_lifetime_seconds: float = 300.0
    crc: Crc32c = crc32c
    """A faster CRC32C may be put in here."""
