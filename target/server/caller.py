"""Who asks: an identity with a scope and, perhaps, a prefix of the names that it may touch and see.

Whoever takes a request sets CALLER; what is done for it, however deep, is held against it. Without one it is the daemon itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass

from target.errors import LunetteError
from target.server.command import SCOPES, Scope

_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+-]*(?:@[A-Za-z0-9][A-Za-z0-9._:+-]*)?")


@dataclass(frozen=True, slots=True)
class Identity:
    """`name` says whence too: unix:root, token:ci, certificate:backup."""

    name: str
    scope: Scope
    prefix: str = ""
    local: bool = False     # comes by the Unix socket, or is the daemon itself: may have secrets

    def check_scope(self, scope: Scope) -> None:
        """LunetteError forbidden."""
        if SCOPES.index(self.scope) < SCOPES.index(scope):
            raise LunetteError("forbidden", f"{self.name} has the scope {self.scope}, and this needs {scope}")

    def check_whole(self) -> None:
        """What concerns more than objects of one prefix. LunetteError forbidden."""
        if self.prefix:
            raise LunetteError("forbidden", f"{self.name} may only do and see what concerns names that begin with "
                                             f"{self.prefix!r}")

    def check_names(self, names: Iterable[str]) -> None:
        """LunetteError forbidden unless there are names, all with the prefix. Whether there are such objects it does not say."""
        found = list(names)
        if self.prefix and not (found and all(map(self.sees, found))):
            other = next((each for each in found if not self.sees(each)), "")
            raise LunetteError("forbidden", f"{self.name} may touch only names that begin with {self.prefix!r}"
                               + (f", not {other!r}" if other else ""))

    def veiled(self, error: LunetteError, known: Callable[[str], bool]) -> LunetteError:
        """The same error, without the names of objects that this one may not see. `known` says what is an object's name."""
        if not self.prefix:
            return error

        def hide(word: re.Match[str]) -> str:
            bare = next((each for each in (word[0], word[0].rstrip(".:+-_")) if not self.sees(each) and known(each)), None)
            return word[0] if bare is None else "another object" + word[0][len(bare):]

        veiled = LunetteError(error.code, _WORD.sub(hide, str(error)))
        veiled.status = error.status
        return veiled

    def sees(self, name: str) -> bool:
        return name.startswith(self.prefix)

    def sees_all(self, names: Iterable[str]) -> bool:
        """Whether it may hear of what concerns all of these; of nothing, only who sees everything."""
        found = list(names)
        return not self.prefix or (bool(found) and all(map(self.sees, found)))


DAEMON = Identity("lunette", "admin", local=True)
CALLER: ContextVar[Identity] = ContextVar("caller", default=DAEMON)
