"""What a management command is: its name, its arguments' model, its coroutine, who may run it, and what it touches.

The rooms of the server declare theirs with this; `api/commands/table.py` runs them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from target.models.forms import Arguments

Json = dict[str, Any]
Scope = Literal["read", "operate", "admin"]     # of a token, each with what the one before it may
SCOPES: tuple[Scope, ...] = ("read", "operate", "admin")


@dataclass(frozen=True, slots=True)
class Touches:
    """Names a command depends on. Two commands may overlap unless one writes what the other names."""

    reads: frozenset[str] = frozenset()
    writes: frozenset[str] = frozenset()
    everything: bool = False


def everything(_: Any) -> Touches:
    """Of a command that waits for all before it, and all wait for it."""
    return Touches(everything=True)


def touches(reads: Iterable[str] = (), writes: Iterable[str] = ()) -> Callable[[Any], Touches]:
    """Of a command that touches the names in these fields of its arguments, one or a list each."""
    read, written = tuple(reads), tuple(writes)

    def found(args: Any) -> Touches:
        return Touches(_names(args, read), _names(args, written))
    return found


def _names(args: Any, fields: Iterable[str]) -> frozenset[str]:
    return frozenset(name for field in fields for name in listed(getattr(args, field)))


def listed(names: str | Iterable[str]) -> list[str]:
    """One name, or several, as a list."""
    return [names] if isinstance(names, str) else list(names)


@dataclass(frozen=True, slots=True)
class Command:
    """One command: its name, the model of its arguments, its coroutine, who may run it, and for batches what it touches.

    Its help is the model's docstring. `run` is given an instance of the model and returns a JSON value.
    """

    name: str
    model: type[Arguments]
    run: Callable[[Any], Awaitable[Any]]
    scope: Scope = "operate"
    touches: Callable[[Any], Touches] = everything
    answer: str = "Any"                     # its result's type, by its name in target/models/answers.py
