"""Who did what: a line in the log for every change, and the last ones for who asks. Secrets are left out by their form."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections import deque
from collections.abc import Mapping
from functools import cache
from typing import Any, cast

from target.models.forms import Form
from target.models.hints import hints, metadata
from target.server.caller import Identity

log = logging.getLogger("lunette.audit")

KEPT = 1024
MAX_TEXT = 1024         # characters of the arguments of one entry
HIDDEN = "***"

Json = dict[str, Any]


class Audit:
    """The audit trail of one daemon."""

    def __init__(self) -> None:
        self._entries: deque[Json] = deque(maxlen=KEPT)
        self._next = 1

    def record(self, identity: Identity, command: str, arguments: Mapping[str, Any], result: str, message: str,
               seconds: float) -> Json:
        """`result` is ok or an error's code. The arguments as they are kept, of large ones the beginning."""
        import msgspec  # the document that asked for the change needed it, too

        text = msgspec.json.encode(arguments).decode()
        if len(text) > MAX_TEXT:
            arguments, text = {"cut": text[:MAX_TEXT]}, text[:MAX_TEXT] + "..."
        kept = dict(arguments)
        self._entries.append({"id": self._next, "at_s": time.time(), "identity": identity.name, "command": command,
                              "arguments": kept, "result": result, "message": message, "seconds": round(seconds, 6)})
        self._next += 1
        log.info("%s: %s %s: %s%s", identity.name, command, text, result, f" ({message})" if message else "")
        return kept

    def entries(self, after: int = 0) -> list[Json]:
        """Those behind a number, oldest first."""
        return [each for each in self._entries if each["id"] > after]


def shown(args: Any) -> Json:
    """A command's arguments without its secrets, and without what was left at its default."""
    found = {}
    for name, default, secret in _fields(cast("Any", type(args))):
        value = getattr(args, name)
        if value is not None and value != default and value not in ([], {}):
            found[name] = HIDDEN if secret else value
    import msgspec

    plain: Json = msgspec.to_builtins(found)        # models within models, too
    return plain


@cache
def _fields(model: Any) -> list[tuple[str, Any, bool]]:
    """A model's fields: name, default, and whether it is a secret."""
    return [(field.name, field.default, any(form.secret for form in metadata(hints(model)[field.name], Form)))
            for field in dataclasses.fields(model)]
