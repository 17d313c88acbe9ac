"""What a model's types say: its fields with all that was annotated, the objects that its values name."""

from __future__ import annotations

import dataclasses
import types
import typing
from functools import cache
from typing import Any, TypeVar, cast

from target.models.forms import Form

M = TypeVar("M")


def hints(model: Any) -> dict[str, Any]:
    """A model's fields and their types, with all that was annotated."""
    return _hints(model)


@cache
def _hints(model: Any) -> dict[str, Any]:
    return typing.get_type_hints(model, include_extras=True)


def metadata(hint: Any, kind: type[M]) -> list[M]:
    """All annotations of that kind in a type, the outer ones first."""
    found = [each for each in getattr(hint, "__metadata__", ()) if isinstance(each, kind)]
    inner = [hint.__origin__] if hasattr(hint, "__metadata__") else typing.get_args(hint)
    return found + [each for part in inner for each in metadata(part, kind)]


def inner(hint: Any) -> Any:
    """A type without annotations and without None: what a value of it is. Of a union, the first."""
    while True:
        if hasattr(hint, "__metadata__"):
            hint = hint.__origin__
        elif typing.get_origin(hint) in (typing.Union, types.UnionType):
            hint = next(each for each in typing.get_args(hint) if each is not types.NoneType)
        else:
            return hint


def named_objects(value: Any) -> frozenset[str]:
    """The names of objects that a command's arguments hold: those of fields whose form is one."""
    found: set[str] = set()
    for field in name_fields(cast("Any", type(value))):
        held = getattr(value, field)
        found.update([held] if isinstance(held, str) else held or ())
    return frozenset(found)


@cache
def name_fields(model: Any) -> tuple[str, ...]:
    """The fields of a model that hold names of objects."""
    return tuple(field.name for field in dataclasses.fields(model)
                 if any(form.names for form in metadata(hints(model)[field.name], Form)))
