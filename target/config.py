"""What can be configured, its defaults, and the text forms people type: sizes, portals, the API socket's place."""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass
from pathlib import Path

from core.units import format_size as format_size
from target.errors import LunetteError

IQN_PREFIX = "iqn.2026-11.dev.lunette:"
DEFAULT_PORT = 3260
LEASE_SECONDS = 10.0
API_ENVIRONMENT = "LUNETTE_API"
API_PLACES = ("run/api.sock", "/run/lunette/api.sock")
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40, "P": 1 << 50}
_SIZE = re.compile(r"(\d+)(?:\.(\d+))?\s*([KMGTP]?)(?:i?B)?", re.IGNORECASE)


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Portal:
    """An address to listen on. `host` is a literal IPv4 or IPv6 address; the unspecified ones are wildcards.

    A link-local one has its interface: fe80::1%eth0. `group` is its portal group tag, which names its target port and that
    port's target port group as well.
    """

    host: str
    port: int = DEFAULT_PORT
    group: int = 1
    both_families: bool = False    # an IPv6 wildcard that takes IPv4 as well

    @property
    def is_loopback(self) -> bool:
        return ipaddress.ip_address(self.host).is_loopback

    @property
    def is_wildcard(self) -> bool:
        return ipaddress.ip_address(self.host).is_unspecified

    @property
    def is_ipv6(self) -> bool:
        return ":" in self.host

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if self.is_ipv6 else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class ApiListener:
    """Where the API listens on TCP, and the files of its certificate, of the key to it, and of the CA of its clients."""

    portal: Portal
    certificate: Path
    key: Path
    client_ca: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeConfig:
    """How the daemon serves one pool. Sizes are bytes, times seconds."""

    pool_path: Path
    portals: tuple[Portal, ...] = (Portal("127.0.0.1"),)
    advertise: tuple[Network, ...] = ()    # what discovery tells of wildcard portals; empty: what hosts outside may reach
    api_path: Path | None = None
    api_listener: ApiListener | None = None
    peer_portal: Portal | None = None       # where other daemons connect
    open_access: bool = False
    force_open: bool = False
    reactors: int = 1
    poll_us: int = 50
    cache_bytes: int = 256 << 20
    direct: bool = False
    defrag: bool = True                     # what snapshots scatter is put in order without anyone asking
    takeover: bool = False
    standby: bool = False                   # wait until told to take the pool over
    decider: str = ""                       # a command that is asked, while waiting, when the owner's lease has ended
    same_identity: bool = False
    log_json: bool = False
    lease_seconds: float = LEASE_SECONDS    # how long the pool's owner may be silent, where another machine may reach it
    login_timeout_seconds: float = 15.0
    max_connections: int = 4096
    max_half_open: int = 1024               # connections that are not logged in yet, in all
    max_half_open_per_peer: int = 256       # and from one address
    max_sessions: int = 4096
    max_sessions_per_initiator: int = 1024
    shutdown_seconds: float = 3.0
    ping_seconds: float = 30.0
    verbose: bool = False


def target_name(pool_name: str) -> str:
    """The iSCSI name of a pool's target."""
    return IQN_PREFIX + pool_name


def own_name(identity: bytes) -> str:
    """A name in iSCSI's form that only this pool's target has, whatever people call it; "" for a pool without an identity."""
    return f"{IQN_PREFIX}pool.{identity.hex()}" if identity else ""


def parse_size(text: str) -> int:
    """`10G`, `512M`, `1.5T` or a number of bytes, in powers of 1024 -> bytes. LunetteError: invalid."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise LunetteError("invalid", f"{text!r} is not a size: a number with K, M, G or T")
    whole, fraction, unit = match.groups()
    scale = _UNITS[unit.upper()]
    size_bytes = int(whole) * scale
    if fraction:
        size_bytes += int(fraction) * scale // 10 ** len(fraction)
    if size_bytes >= 1 << 62:
        raise LunetteError("invalid", f"{text!r} is too large")
    return size_bytes


def parse_duration(text: str) -> float:
    """Seconds in `10s`, `500ms`, `2m`, `1h`, `30d`, `2w`, `0`. LunetteError: invalid."""
    if text.strip() == "0":
        return 0.0
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|s|m|h|d|w)", text.strip())
    if match is None:
        raise LunetteError("invalid", f"{text!r} is not a time: a number with ms, s, m, h, d or w")
    return float(match[1]) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}[match[2]]


def format_duration(seconds: float) -> str:
    """Seconds for people."""
    return f"{seconds * 1000:g}ms" if seconds < 1 else f"{seconds:g}s"


def round_up(size_bytes: int, grain_bytes: int) -> int:
    """The smallest multiple of `grain_bytes` that is not below."""
    return -(-size_bytes // grain_bytes) * grain_bytes


def parse_portal(text: str) -> Portal:
    """`ADDR`, `ADDR:PORT`, `[IPV6]:PORT`, `*:PORT` or `:PORT`, then `,GROUP` if it is not 1. LunetteError: invalid."""
    bad = LunetteError("invalid", f"{text!r} is not an address to listen on: ADDR:PORT[,GROUP], with IPv6 in brackets")
    address_text, comma, tag = text.strip().partition(",")
    if comma and (re.fullmatch(r"\d{1,5}", tag) is None or not 1 <= int(tag) <= 65535):
        raise bad
    match = re.fullmatch(r"(?:\[(?P<six>[^\]]*)\]|(?P<four>[^:\[\]]*))(?::(?P<port>\d{1,5}))?", address_text)
    if match is None:
        if address_text.count(":") < 2:
            raise bad
        host, port = address_text, DEFAULT_PORT
    else:
        host = match["six"] if match["six"] is not None else match["four"]
        port = DEFAULT_PORT if match["port"] is None else int(match["port"])
    if not host and (match is None or match["port"] is None or match["six"] is not None):
        raise bad                       # a variable that was not set
    host = {"": "0.0.0.0", "*": "0.0.0.0", "localhost": "127.0.0.1"}.get(host, host)
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise bad from None
    if isinstance(address, ipaddress.IPv6Address) and address.is_link_local and not address.scope_id:
        raise LunetteError("invalid", f"{text!r} is link-local and needs its interface: [{address}%eth0]:PORT")
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    if not 0 <= port <= 65535:
        raise bad
    return Portal(str(address), port, int(tag or 1))


def parse_advertised(text: str) -> Network:
    """An address, or a network in CIDR form whose addresses are meant. LunetteError: invalid."""
    try:
        return ipaddress.ip_network(text.strip().strip("[]"))
    except ValueError:
        raise LunetteError("invalid", f"{text!r} is neither an address nor a network: 10.0.0.1, 10.0.0.0/24") from None


def plain_address(host: str) -> str:
    """An address as sockets give it, without the IPv6 form that an IPv4 peer has on a socket of both families."""
    address = ipaddress.ip_address(host)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def find_api_socket(given: str | None, *, serving: bool = False) -> str:
    """The API socket: --api, else LUNETTE_API, else the first of API_PLACES that exists.

    Where none does, and for a daemon (`serving`): the first whose directory exists, or else the last.
    """
    chosen = given or os.environ.get(API_ENVIRONMENT)
    if not chosen and not serving:
        chosen = next((place for place in API_PLACES if os.path.exists(place)), None)
    return chosen or next((place for place in API_PLACES if os.path.isdir(os.path.dirname(place))), API_PLACES[-1])
