"""Arguments of the commands on tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from target.models.forms import Arguments, Form, Says

TokenName = Annotated[str, Form("the name of a token", "a name: letters, digits and . _ : + - only, at most 64, beginning with a "
                                "letter or digit", "^[A-Za-z0-9][A-Za-z0-9._:+-]*$", 1, 64)]
Prefix = Annotated[str, Form("a prefix", "the beginning of a name, or nothing", "^(?:[A-Za-z0-9][A-Za-z0-9._:+-]*)?$", None, 64)]
Seconds = Annotated[int, Form("a time", "a time of 1 second to 100 years", ge=1, le=100 * 365 * 86400)]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenCreate(Arguments):
    """Create a token for the API over TCP. It is shown once, and kept as a hash."""

    name: Annotated[TokenName, Says(argument=True)]
    scope: Annotated[Literal["read", "operate", "admin"], Says("read looks; operate changes objects and connections; admin does "
                                                               "everything.")]
    prefix: Annotated[Prefix, Says("Only objects whose name begins so.", metavar="PREFIX")] = ""
    expires_seconds: Annotated[Seconds | None, Says("How long it is good for: 30d, 12h, 90m ... For ever if not given.",
                                                    flag="--expires")] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenDelete(Arguments):
    """Delete a token: it is good for nothing from then on."""

    name: Annotated[TokenName, Says(argument=True)]
