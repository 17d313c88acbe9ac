"""Peers: other daemons that send here or receive from here, and who this one is to them. The pool's key store, and a copy of it.

Keys, values JSON: `peer/NAME` (a Peer), `peer_identity` (this pool's own certificate and its key: a secret). A peer is known
by its certificate alone, which is pinned: nobody signs it, and no name in it counts.
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import re
import secrets
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from target.errors import LunetteError
from target.volumes.entries import Entries, Kind
from target.volumes.gateway import AsyncPool
from target.volumes.links import Credentials, fingerprint

RIGHTS = ("send", "receive")
PREFIX, IDENTITY = "peer/", "peer_identity"
ALL = "*"
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----([A-Za-z0-9+/=\s]+)-----END CERTIFICATE-----")


@dataclass(frozen=True, slots=True)
class Peer:
    """`send`: patterns of the volumes here that it may write as a replica; `receive`: of those whose contents it may get."""

    name: str
    address: str
    fingerprint: str
    send: tuple[str, ...] = ()
    receive: tuple[str, ...] = ()

    def may(self, right: str, volume: str) -> bool:
        patterns: tuple[str, ...] = getattr(self, right)
        return any(fnmatch.fnmatchcase(volume, each) for each in patterns)

    def check(self, right: str, volume: str) -> None:
        """LunetteError forbidden."""
        if not self.may(right, volume):
            raise LunetteError("forbidden", f"peer {self.name} may not {right} {volume}: peer add --allow {right}")

    @property
    def place(self) -> tuple[str, int]:
        host, _, port = self.address.rpartition(":")
        return host.strip("[]"), int(port)

    def as_json(self) -> dict[str, Any]:
        return {"name": self.name, "address": self.address, "fingerprint": self.fingerprint, "send": list(self.send),
                "receive": list(self.receive)}


def parse_allowed(words: list[str]) -> dict[str, tuple[str, ...]]:
    """`send`, `receive:db*,web` ... as patterns by right. LunetteError invalid."""
    allowed: dict[str, list[str]] = {right: [] for right in RIGHTS}
    for word in words:
        right, colon, patterns = word.partition(":")
        if right not in RIGHTS or (colon and not patterns):
            raise LunetteError("invalid", f"{word!r} is no right: send or receive, or one of them with volumes, send:db*,web")
        allowed[right] += patterns.split(",") if colon else [ALL]
    return {right: tuple(dict.fromkeys(each for each in patterns if each)) for right, patterns in allowed.items()}


def parse_certificate(pem: str) -> bytes:
    """The one certificate of a PEM text, DER. LunetteError invalid."""
    found = _PEM.findall(pem)
    try:
        if len(found) != 1:
            raise ValueError
        der = base64.b64decode("".join(found[0].split()), validate=True)
        if len(der) < 64 or der[0] != 0x30:
            raise ValueError
        return der
    except (ValueError, binascii.Error):
        raise LunetteError("invalid", "that is not one certificate in PEM: lunette peer certificate prints the peer's") from None


def pem_of(certificate: bytes) -> str:
    text = base64.b64encode(certificate).decode()
    lines = [text[at:at + 64] for at in range(0, len(text), 64)]
    return "\n".join(["-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----", ""])


def make_credentials(name: str) -> Credentials:
    """A new key of P-256 and a certificate for it that it signs itself. It says what people see, and proves nothing else."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"lunette {name}"[:64])])
    made = (x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
            .serial_number(secrets.randbits(159) | 1).not_valid_before(datetime(2026, 1, 1, tzinfo=UTC))
            .not_valid_after(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)).sign(key, hashes.SHA256()))
    return Credentials(made.public_bytes(serialization.Encoding.DER), key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()))


class Peers:
    """The peers of one pool. Changes are durable when a coroutine returns."""

    def __init__(self, pool: AsyncPool) -> None:
        self._pool = pool
        self._peers: dict[str, Peer] = {}
        self._credentials: Credentials | None = None
        self._entries = Entries(pool, "peers", {
            IDENTITY: Kind(self._load_credentials, secret=True), "peer": Kind(self._load_peer, secret=True)})
        self._entries.load()

    def all(self) -> list[Peer]:
        return sorted(self._peers.values(), key=lambda each: each.name)

    def find(self, name: str) -> Peer:
        """LunetteError not_found."""
        if name not in self._peers:
            raise LunetteError("not_found", f"there is no peer {name!r}")
        return self._peers[name]

    def by_fingerprint(self, known_by: str) -> Peer | None:
        return next((each for each in self._peers.values() if secrets.compare_digest(each.fingerprint, known_by)), None)

    async def credentials(self, *, new: bool = False) -> Credentials:
        """This pool's own, made when they are first asked for. LunetteError."""
        if self._credentials is None or new:
            made = make_credentials(self._pool.pool.name)
            texts = {"certificate": base64.b64encode(made.certificate).decode(), "key": base64.b64encode(made.key).decode()}
            await self._entries.store({IDENTITY: texts})
            self._credentials = made
        return self._credentials

    async def save(self, peer: Peer) -> None:
        """LunetteError exists: another peer has that certificate."""
        other = self.by_fingerprint(peer.fingerprint)
        if other is not None and other.name != peer.name:
            raise LunetteError("exists", f"peer {other.name} has that certificate already")
        if self._credentials is not None and fingerprint(self._credentials.certificate) == peer.fingerprint:
            raise LunetteError("invalid", "that is this pool's own certificate: the peer's is wanted")
        value = asdict(peer)
        del value["name"]
        await self._entries.store({PREFIX + peer.name: value})
        self._peers[peer.name] = peer

    async def forget(self, name: str) -> None:
        await self._entries.store({PREFIX + name: None})
        self._peers.pop(name, None)

    def _load_credentials(self, rest: str, value: Any) -> None:
        self._credentials = Credentials(base64.b64decode(value["certificate"]), base64.b64decode(value["key"]))

    def _load_peer(self, rest: str, value: Any) -> None:
        self._peers[rest] = Peer(rest, value["address"], value["fingerprint"], tuple(value["send"]), tuple(value["receive"]))
