"""Arguments of management commands: JSON values of the right type, or a refusal that names the argument."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from target.errors import LunetteError

Json = dict[str, Any]
Arguments = Mapping[str, Any]


def take(args: Arguments, name: str, kind: type, default: Any = ...) -> Any:
    """One argument of the right JSON type, or LunetteError invalid. Without `default` it must be there."""
    value = args.get(name, default)
    if value is ...:
        raise LunetteError("invalid", f"{name} is missing")
    if value is default:
        return value
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise LunetteError("invalid", f"{name} must be a {kind.__name__}, not {type(value).__name__}")
    return value
