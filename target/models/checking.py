"""Documents against models: a JSON object becomes a model's instance, or one line says what is wrong with it. Schemas of models.

msgspec does it. It is imported by the first document and builds what it needs of the models that are used: a start pays nothing
for it.
"""

from __future__ import annotations

import dataclasses
import json
import re
import types
import typing
from collections.abc import Iterable
from functools import cache, reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, cast

from target.errors import LunetteError
from target.models.forms import Form, Says
from target.models.hints import hints, inner, metadata

if TYPE_CHECKING:
    import msgspec

M = TypeVar("M")
SHOWN = 80      # characters of a refused value
_models: dict[type, Any] = {}       # of msgspec's side of each
REFERENCES = "#/components/schemas/{name}"
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`")
_MISSING = re.compile(r"Object missing required field `(.*)`")
_PLACE = re.compile(r"(.*) - at (?:`key` in )?`\$((?:\.|\[).*)`")
_OF_FORM = re.compile(r"Expected `(?:str|int|float|array)` (?:matching|of length|[<>]=)")
_TYPES = {"str": "a string", "int": "a whole number", "float": "a number", "bool": "true or false", "array": "a list",
          "object": "an object", "null": "null"}


def check(model: type[M], document: Any) -> M:
    """A model's instance from a JSON value. LunetteError invalid: which argument, and why."""
    import msgspec

    decoder, names, flat = _decoder(cast("Any", model))
    try:
        try:
            found = decoder.decode(msgspec.json.encode(document))
        except msgspec.ValidationError:
            found = decoder.decode(msgspec.json.encode(_whole(document)))
    except msgspec.ValidationError as error:
        raise LunetteError("invalid", _first(model, document, str(error))) from None
    except (ValueError, RecursionError) as error:
        raise LunetteError("invalid", f"the document is no JSON that can be read: {error}") from None
    return model(**{name: getattr(found, name) if flat else _instances(getattr(found, name)) for name in names})


def read_json(text: bytes | str) -> Any:
    """The value of a JSON text that is one to the letter: no NaN, nothing but Unicode in strings. ValueError, RecursionError."""
    import msgspec

    return msgspec.json.decode(text)


def json_text(value: Any) -> bytes:
    """A JSON value as text, for thousands of small ones: the standard library makes itself ready anew for each."""
    import msgspec

    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:          # what no file system of UTF-8 would call a file
        return json.dumps(value, separators=(",", ":")).encode()


def schemas(inputs: Iterable[Any]) -> tuple[list[Any], dict[str, Any]]:
    """JSON schemas of models and of types of answers, and the components that they refer to by their names."""
    import msgspec

    found, components = msgspec.json.schema_components(
        [_struct(cast("Any", each)) if dataclasses.is_dataclass(each) else each for each in inputs], ref_template=REFERENCES)
    return list(found), components


@cache
def _decoder(model: Any) -> tuple[msgspec.json.Decoder[Any], tuple[str, ...], bool]:
    """What reads a model, its fields, and whether none of them holds models."""
    import msgspec

    flat = not any(_holds_models(hint) for hint in hints(model).values())
    return msgspec.json.Decoder(_struct(model)), tuple(field.name for field in dataclasses.fields(model)), flat


def _holds_models(hint: Any) -> bool:
    """Whether values of a type may hold models; what is annotated, as a Form, is a dataclass's instance, too, and no model."""
    return (isinstance(hint, type) and dataclasses.is_dataclass(hint)) or any(map(_holds_models, typing.get_args(hint)))


def _instances(value: Any) -> Any:
    """The same, with instances of models in place of msgspec's."""
    import msgspec

    if isinstance(value, msgspec.Struct):
        made = _models[type(value)]
        return made(**{name: _instances(getattr(value, name)) for name in value.__struct_fields__})
    if isinstance(value, dict):
        return {key: _instances(each) for key, each in value.items()}
    return [_instances(each) for each in value] if isinstance(value, list) else value


@cache
def _struct(model: Any) -> Any:
    """msgspec's side of a model: the same fields, with the limits of their forms."""
    import msgspec

    fields: list[Any] = []
    for field in dataclasses.fields(model):
        kind = _native(hints(model)[field.name])
        said = next(iter(metadata(hints(model)[field.name], Says)), None)
        if said is not None and said.text:
            kind = Annotated[kind, msgspec.Meta(description=said.text)]
        if field.default_factory is not dataclasses.MISSING:
            fields.append((field.name, kind, msgspec.field(default_factory=field.default_factory)))
        elif field.default is not dataclasses.MISSING:
            fields.append((field.name, kind, field.default))
        else:
            fields.append((field.name, kind))
    made = msgspec.defstruct(model.__name__, fields, kw_only=True, forbid_unknown_fields=True, module=model.__module__,
                             namespace={"__doc__": model.__doc__})
    _models[made] = model
    return made


def _native(hint: Any) -> Any:
    """A type with what msgspec knows in place of our forms and models."""
    if dataclasses.is_dataclass(hint):
        return _struct(cast("Any", hint))
    if hasattr(hint, "__metadata__"):
        return reduce(_limited, (each for each in hint.__metadata__ if isinstance(each, Form)), _native(hint.__origin__))
    parts = typing.get_args(hint)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return reduce(or_, map(_native, parts))
    if typing.get_origin(hint) in (list, dict):
        return typing.get_origin(hint)[tuple(map(_native, parts))]
    return hint


def _limited(kind: Any, form: Form) -> Any:
    """Of a number, msgspec wants no limits of length, of a string none of size: a form has only those that fit."""
    import msgspec

    limits = {key: value for key in Form.LIMITS if (value := getattr(form, key)) is not None}
    if form.pattern is not None:        # Python's $ is also before a last newline; a schema's is not
        limits["pattern"] = re.sub(r"\$$", r"\\Z", form.pattern)
        limits["extra_json_schema"] = {"pattern": form.pattern}
    return Annotated[kind, msgspec.Meta(**limits)] if limits else kind


def _whole(value: Any) -> Any:
    """The same, whole numbers as integers: JSON knows but one kind of number, and 4096.0 is 4096."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _whole(each) for key, each in value.items()}
    return [_whole(each) for each in value] if isinstance(value, list) else value


def _first(model: Any, document: Any, error: str) -> str:
    """What is wrong, in words of ours where the field's form has any."""
    placed = _PLACE.fullmatch(error)
    said, path = (placed[1], placed[2].lstrip(".")) if placed else (error, "")
    unknown, missing = _UNKNOWN.fullmatch(said), _MISSING.fullmatch(said)
    if unknown and not path:
        return f"there is no argument {unknown[1]!r}"
    if missing and not path:
        return f"{missing[1]} is missing"
    match = re.match(r"\w*", path)
    field = match[0] if match else ""
    given = document.get(field) if isinstance(document, dict) else None
    return _by_form(model, field, given, said) or f"{path or 'the document'}: {_in_words(*_within(model, document, path), said)}"


def _by_form(model: Any, field: str, given: Any, said: str) -> str:
    """The words of a field's form for a value that is not of it; empty: it has none, or the type is another one."""
    forms = metadata(hints(model).get(field, str), Form)
    form = next((each for each in forms if each.pattern), forms[0] if forms else Form())
    if not _OF_FORM.match(said) or not form.rule or isinstance(given, dict):
        return ""
    if isinstance(given, list):
        given = next((each for each in given if not isinstance(each, str) or not re.fullmatch(form.pattern or "", each)), given)
    if form.what and isinstance(given, str) and form.max_length is not None and len(given) > form.max_length:
        return f"{form.what} has at most {form.max_length} characters, not {len(given)}"
    return f"{field}: {_shortened(given)} is not {form.rule}"


def _within(hint: Any, value: Any, path: str) -> tuple[Any, Any]:
    """The type and the value at a path such as `configuration.hosts[0].name`."""
    for name, place in re.findall(r"(\w+)|\[(.*?)\]", path):
        if name:
            hint = inner(hints(hint)[name]) if dataclasses.is_dataclass(hint) else Any
            value = value.get(name) if isinstance(value, dict) else None
        else:
            hint = inner((typing.get_args(hint) or (Any,))[-1])
            value = value[int(place)] if place.isdigit() and isinstance(value, list) else None
    return hint, value


def _in_words(hint: Any, given: Any, said: str) -> str:
    """What msgspec says of a value, in words that people use of JSON."""
    if said.startswith("Invalid enum value"):
        allowed = ", ".join(map(str, typing.get_args(hint)))
        return f"{_shortened(given)} is none of {allowed}"
    wrong_type = re.fullmatch(r"Expected `([\w |]+)`, got `(\w+)`", said)
    if wrong_type:
        wanted = " or ".join(_TYPES.get(each, each) for each in wrong_type[1].split(" | "))
        return f"this has to be {wanted}, not {_TYPES.get(wrong_type[2], wrong_type[2])}"
    return said[:1].lower() + said[1:].replace("`", "")


def _shortened(given: Any) -> str:
    return f"{given!r}" if len(str(given)) <= SHOWN else f"{str(given)[:SHOWN]!r}..."
