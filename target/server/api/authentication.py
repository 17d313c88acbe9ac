"""Who sends a request: the user at the other end of the Unix socket, a bearer token, or a client's certificate."""

from __future__ import annotations

import pwd
import socket
import struct
from typing import TYPE_CHECKING, Any

from target.errors import LunetteError
from target.server.api.tokens import Tokens
from target.server.command import SCOPES
from target.server.identity import Identity

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Mapping


def identify(transport: asyncio.BaseTransport, headers: Mapping[str, str], tokens: Tokens) -> Identity:
    """LunetteError unauthenticated (who is it?), forbidden (a page of somebody else's asks in the name of a browser's user)."""
    secured = transport.get_extra_info("ssl_object")
    if secured is None:
        return _local(transport.get_extra_info("socket"))
    origin = headers.get("Origin")
    if origin is not None and origin.partition("//")[2] != headers.get("Host"):
        raise LunetteError("forbidden", "a page from elsewhere may not use this API")
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


def _local(sock: socket.socket) -> Identity:
    """The socket's mode lets its owner in, who may do everything."""
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    uid = struct.unpack("3i", raw)[1]
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    return Identity(f"unix:{name}", "admin")


def _certified(certificate: Mapping[str, Any]) -> Identity:
    """By the certificate's subject: its common name, and as its organizational unit the scope (read, if none is one)."""
    subject = [pair for part in certificate.get("subject", ()) for pair in part]
    name = next((value for key, value in subject if key == "commonName"), "nameless")
    units = [value for key, value in subject if key == "organizationalUnitName"]
    return Identity(f"certificate:{name}", next((scope for scope in reversed(SCOPES) if scope in units), "read"))
