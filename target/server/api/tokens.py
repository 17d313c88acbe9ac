"""Tokens: who may use the API from afar, what for, and until when. Kept in the pool, as hashes: nobody can read a token there.

Keys of the pool's store, values JSON: `token/NAME`. A token is `lnt_ID_SECRET`; its id finds the entry, its SHA-256 is compared
in constant time. A secret of 256 random bits needs no slow hash.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, cast

from target.errors import LunetteError
from target.models.tokens import TokenCreate, TokenDelete
from target.server.caller import Identity
from target.server.command import SCOPES, Command, Scope
from target.volumes.entries import Entries, Kind
from target.volumes.gateway import AsyncPool

MAX_TOKENS = 1000
NOBODY = "0" * 64

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Token:
    """One token, without its secret."""

    name: str
    id: str
    sha256: str
    scope: Scope
    prefix: str
    created_s: float
    expires_s: float | None


class Tokens:
    """The tokens of one pool. Changes are durable when a coroutine returns."""

    def __init__(self, pool: AsyncPool) -> None:
        self._tokens: dict[str, Token] = {}     # by name
        self.changed: Callable[[], None] = lambda: None
        self._entries = Entries(pool, "tokens", {"token": Kind(self._load)})
        self._entries.load()

    def __len__(self) -> int:
        return len(self._tokens)

    def commands(self) -> list[Command]:
        return [Command("token_create", TokenCreate, self._create, "admin", answer="TokenMade"),
                Command("token_delete", TokenDelete, self._delete, "admin", answer="None")]

    def rows(self) -> list[Json]:
        """All of them by name, none with its secret or hash."""
        return [self._described(each) for _, each in sorted(self._tokens.items())]

    def find(self, text: str) -> Identity | None:
        """Whose token this is; None: nobody's, or its time is over."""
        parts = text.split("_")
        wanted = parts[1] if len(parts) == 3 and parts[0] == "lnt" else ""
        found = next((each for each in self._tokens.values() if each.id == wanted), None)
        same = hmac.compare_digest(_hash(text), NOBODY if found is None else found.sha256)
        if found is None or not same or (found.expires_s is not None and time.time() >= found.expires_s):
            return None
        return Identity(f"token:{found.name}", found.scope, found.prefix)

    async def _create(self, args: TokenCreate) -> Json:
        """The only time that its secret is seen."""
        if args.name in self._tokens:
            raise LunetteError("exists", f"there is a token {args.name!r} already")
        if len(self._tokens) >= MAX_TOKENS:
            raise LunetteError("limit", f"there are {MAX_TOKENS} tokens already")
        number = secrets.token_hex(8)
        text = f"lnt_{number}_{secrets.token_hex(32)}"
        now = time.time()
        token = Token(args.name, number, _hash(text), args.scope, args.prefix, now,
                      None if args.expires_seconds is None else now + args.expires_seconds)
        value = {key: each for key, each in asdict(token).items() if key != "name"}
        await self._entries.store({f"token/{args.name}": value})
        self._tokens[args.name] = token
        self.changed()
        return {**self._described(token), "token": text}

    async def _delete(self, args: TokenDelete) -> None:
        if args.name not in self._tokens:
            raise LunetteError("not_found", f"there is no token {args.name!r}")
        token = self._tokens.pop(args.name)         # before it is stored: it is good for nothing from now on
        try:
            await self._entries.store({f"token/{args.name}": None})
        except LunetteError:
            self._tokens[args.name] = token
            raise
        self.changed()

    def _described(self, token: Token) -> Json:
        return {"name": token.name, "scope": token.scope, "prefix": token.prefix, "created_s": token.created_s,
                "expires_s": token.expires_s, "expired": token.expires_s is not None and time.time() >= token.expires_s}

    def _load(self, name: str, value: Any) -> None:
        scope = value["scope"]
        if scope not in SCOPES or not isinstance(value["sha256"], str) or len(value["sha256"]) != 64:
            raise ValueError("scope or hash")
        expires = value["expires_s"]
        self._tokens[name] = Token(name, str(value["id"]), value["sha256"], cast("Scope", scope), str(value["prefix"]),
                                   float(value["created_s"]), None if expires is None else float(expires))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()    # a header may hold any bytes
