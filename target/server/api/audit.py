"""Who did what: a line in the log for every change, and the last ones for who asks. Secrets are left out by their form."""

from __future__ import annotations

import dataclasses
import json
import logging
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from target.models.forms import Form
from target.models.hints import hints, metadata
from target.server.identity import Identity

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
               seconds: float) -> None:
        """`result` is ok or an error's code."""
        text = json.dumps(arguments, separators=(",", ":"), ensure_ascii=False, default=str)
        if len(text) > MAX_TEXT:
            arguments, text = {"cut": text[:MAX_TEXT]}, text[:MAX_TEXT] + "..."
        self._entries.append({"id": self._next, "at_s": time.time(), "identity": identity.name, "command": command,
                              "arguments": dict(arguments), "result": result, "message": message, "seconds": round(seconds, 6)})
        self._next += 1
        log.info("%s: %s %s: %s%s", identity.name, command, text, result, f" ({message})" if message else "")

    def entries(self, after: int = 0) -> list[Json]:
        """Those behind a number, oldest first."""
        return [each for each in self._entries if each["id"] > after]


def shown(args: Any) -> Json:
    """A command's arguments without its secrets, and without what was left at its default."""
    if not dataclasses.is_dataclass(args):
        return dict(args)
    fields = ((field, getattr(args, field.name)) for field in dataclasses.fields(args))
    secret = {name for name, hint in hints(type(args)).items() if any(form.secret for form in metadata(hint, Form))}
    return {field.name: HIDDEN if field.name in secret and value is not None else value for field, value in fields
            if value not in (field.default, None) and value not in ([], {})}
