"""Who sends a request: the user at the other end of the Unix socket, a bearer token, or a client's certificate."""

from __future__ import annotations

import pwd
import socket
import struct
from typing import TYPE_CHECKING, Any

from target.errors import LunetteError
from target.server.api.tokens import Tokens
from target.server.caller import Identity
from target.server.command import SCOPES

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping


LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")


def identify(transport: asyncio.BaseTransport, headers: Mapping[str, str], tokens: Tokens) -> Identity:
    """LunetteError unauthenticated (who is it?), forbidden (a page of somebody else's asks in the name of a browser's user)."""
    secured = transport.get_extra_info("ssl_object")
    _check_browser(headers, local=secured is None)
    if secured is None:
        return _local(transport.get_extra_info("socket"))
    given = headers.get("Authorization")
    if given is not None:
        scheme, _, text = given.partition(" ")
        identity = tokens.find(text.strip()) if scheme.lower() == "bearer" else None
        if identity is None:
            raise LunetteError("unauthenticated", "the token is not valid, or no longer")
        return identity
    certificate = secured.getpeercert()
    if certificate:
        return _certified(certificate)
    raise LunetteError("unauthenticated", "a bearer token or a client's certificate is needed")


def _check_browser(headers: Mapping[str, str], *, local: bool) -> None:
    """A browser asks in its user's name whatever page it shows: only ours may. LunetteError forbidden.

    To the Unix socket (through ssh -L, say) a page of any name could come that resolves to this machine: only local names count.
    """
    origin, host = headers.get("Origin"), headers.get("Host", "")
    foreign = origin is not None and origin.partition("//")[2] != host
    browser = origin is not None or headers.get("User-Agent", "").startswith("Mozilla/")
    if foreign or (local and browser and host.rpartition(":")[0 if ":" in host else 2] not in LOCAL_NAMES):
        raise LunetteError("forbidden", "a page from elsewhere may not use this API")


def _local(sock: socket.socket) -> Identity:
    """The socket's mode lets its owner in, who may do everything."""
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    uid = struct.unpack("3i", raw)[1]
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    return Identity(f"unix:{name}", "admin", local=True)


def _certified(certificate: Mapping[str, Any]) -> Identity:
    """By the certificate's subject: its common name, and as its organizational unit the scope (read, if none is one)."""
    subject = [pair for part in certificate.get("subject", ()) for pair in part]
    name = next((value for key, value in subject if key == "commonName"), "nameless")
    units = [value for key, value in subject if key == "organizationalUnitName"]
    return Identity(f"certificate:{name}", next((scope for scope in reversed(SCOPES) if scope in units), "read"))
