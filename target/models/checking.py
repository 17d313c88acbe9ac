"""Documents against models: a JSON object becomes a model's instance, or one line says what is wrong with it. Schemas of models.

pydantic is imported by the first document and builds what it needs of the models that are used: a start pays nothing for it.
"""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, cast

from target.errors import LunetteError
from target.models.forms import Form
from target.models.hints import hints, metadata

if TYPE_CHECKING:
    from pydantic import TypeAdapter

M = TypeVar("M")
SHOWN = 80      # characters of a refused value


def adapter(model: Any) -> TypeAdapter[Any]:
    """pydantic's side of a model, built when it is first needed."""
    return _adapter(model)


@cache
def _adapter(model: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(model)


def check(model: type[M], document: Any) -> M:
    """A model's instance from a JSON value. LunetteError invalid: which argument, and why."""
    from pydantic_core import ValidationError

    try:
        value: M = adapter(cast("Any", model)).validate_json(json.dumps(_whole(document)))
    except ValidationError as error:
        raise LunetteError("invalid", _first(model, error.errors(include_url=False, include_context=True)[0])) from None
    return value


def _whole(value: Any) -> Any:
    """The same, whole numbers as integers: JSON knows but one kind of number, and 4096.0 is 4096."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _whole(each) for key, each in value.items()}
    return [_whole(each) for each in value] if isinstance(value, list) else value


def _first(model: Any, error: Any) -> str:
    """What is wrong, in words of ours where the field's form has any."""
    where, kind, given = [str(each) for each in error["loc"]], error["type"], error["input"]
    field = where[0] if where else ""
    forms = metadata(hints(model).get(field, str), Form)
    form = next((each for each in forms if each.pattern), forms[0] if forms else Form())
    if kind == "unexpected_keyword_argument":
        return f"there is no argument {field!r}"
    if kind == "missing":
        return f"{field} is missing"
    if kind == "string_too_long" and form.what:
        return f"{form.what} has at most {error['ctx']['max_length']} characters, not {len(given)}"
    if form.rule and (kind.startswith("string_pattern") or kind in ("string_too_short", "greater_than_equal", "less_than_equal")):
        shown = f"{given!r}" if len(str(given)) <= SHOWN else f"{str(given)[:SHOWN]!r}..."
        return f"{field}: {shown} is not {form.rule}"
    at = ".".join(each for each in where if not each.startswith(("function", "list[", "constrained")))
    return f"{at or 'the document'}: {error['msg'][:1].lower()}{error['msg'][1:]}"
