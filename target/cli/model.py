"""Commands made of models: the options and the help of a management command are the fields and the docstring of its arguments."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, Literal

import click

from target.cli import completion
from target.cli.request import DURATION, SIZE, Request, RequestCommand, json_option, print_json
from target.models.forms import Form, Says
from target.models.hints import hints, metadata
from target.models.hints import inner as inner_type

LISTINGS = {"a host's name": "/v1/hosts", "the name of a token": "/v1/tokens", "the name of a schedule": "/v1/schedules",
            "a repository's name": "/v1/repositories", "a peer's name": "/v1/peers"}      # by the form's word for it
Change = Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]


def model_command(model: Any, name: str, *, command: str = "", show: Callable[[Any], None] = lambda result: None,
                  as_json: bool = False, more: Iterable[click.Parameter] = (), change: Change | None = None) -> RequestCommand:
    """The command `name` of a model of arguments, which sends `command` (the same, if not given) with what its parameters say.

    `as_json` gives it --json. `more` are parameters beside the model's; `change` gets the arguments and their values, and
    returns the arguments to send.
    """
    extra = [*more]
    fields = {field.name: field for field in dataclasses.fields(model)}

    def request(**given: Any) -> Request:
        printed = bool(given.pop("as_json", False))
        args = {key: value for key, field in fields.items()
                if key in given and (value := _value(hints(model)[key], given[key])) not in (None, _default(field))}
        if change is not None:
            args = change(args, {each.name: given[each.name] for each in extra if each.name is not None})
        return Request(command or name, args, print_json if printed else show)

    made = RequestCommand(name, params=[*_parameters(model), *extra], callback=request, help=inspect.getdoc(model))
    return json_option(made) if as_json else made


@cache
def _parameters(model: Any) -> tuple[click.Parameter, ...]:
    found = [parameter for field in dataclasses.fields(model)
             if (parameter := _parameter(field, hints(model)[field.name])) is not None]
    return tuple(sorted(found, key=lambda each: isinstance(each, click.Option)))    # arguments first, each kind in order


def _parameter(field: dataclasses.Field[Any], hint: Any) -> click.Parameter | None:
    said = next(iter(metadata(hint, Says)), Says())
    if said.hidden:
        return None
    inner = inner_type(hint)
    several = typing.get_origin(inner) in (list, dict)
    required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    if said.argument:
        return click.Argument([field.name], nargs=-1 if several else 1, required=required, metavar=said.metavar,
                              type=_type(field.name, hint), shell_complete=_completion(hint))
    flag = said.flag or "--" + field.name.replace("_", "-")
    if inner is bool:
        return click.Option([flag, field.name], is_flag=True, default=field.default, help=said.text)
    shown = typing.get_origin(inner) is Literal or isinstance(field.default, str)
    preset: dict[str, Any] = {} if several or required else {"default": field.default}
    return click.Option([flag, field.name], multiple=several, required=required, metavar=said.metavar, help=said.text,
                        type=_type(field.name, hint), show_default=shown and bool(field.default),
                        shell_complete=_completion(hint), **preset)


def _completion(hint: Any) -> Any:
    """How a shell completes it: names that there are, for a field that holds names."""
    forms = metadata(hint, Form)
    path = next((LISTINGS[form.what] for form in forms if form.what in LISTINGS), None)
    if path is not None:
        return completion.listed(path)
    return completion.objects if any(form.names for form in forms) else None


def _type(name: str, hint: Any) -> Any:
    inner = inner_type(hint)
    if typing.get_origin(inner) is Literal:
        return click.Choice([str(each) for each in typing.get_args(inner)])
    if name.endswith("_bytes"):
        return SIZE
    if name.endswith("_seconds"):
        return DURATION
    if inner is int:
        form = next(iter(metadata(hint, Form)), Form())
        return click.IntRange(None if form.ge is None else int(form.ge), form.le)
    return str


def _value(hint: Any, given: Any) -> Any:
    """What click made of the words, as the model wants it."""
    inner = inner_type(hint)
    origin = typing.get_origin(inner)
    if origin is dict:
        return dict(pair(each) for each in given)
    if origin is list:
        return list(given)
    if origin is Literal and given is not None:
        return next(each for each in typing.get_args(inner) if str(each) == given)
    return given


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def pair(text: str) -> tuple[str, str]:
    """KEY=VALUE as both; a usage error for anything else."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise click.UsageError(f"{text!r} is not KEY=VALUE")
    return key, value
