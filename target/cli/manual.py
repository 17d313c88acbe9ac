"""Manual pages, made from the same help that --help shows: one for each command, in the form of man(7)."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import click


@click.command("man")
@click.argument("directory", type=click.Path(file_okay=False))
@click.pass_context
def man(ctx: click.Context, directory: str) -> None:
    """Write the manual pages (section 1) into a DIRECTORY."""
    root = ctx.find_root().command
    place = Path(directory)
    place.mkdir(parents=True, exist_ok=True)
    pages = {name: page(root, name, command) for name, command in commands(root, "lunette")}
    for name, text in pages.items():
        (place / f"{name.replace(' ', '-')}.1").write_text(text)
    click.echo(f"{len(pages)} pages in {directory}")


def commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    """A command and all below it, each by its whole name."""
    yield name, command
    for each, below in _below(command):
        yield from commands(below, f"{name} {each}")


def page(root: click.Command, name: str, command: click.Command) -> str:
    """One page."""
    ctx = click.Context(command, info_name=name)
    words = inspect.cleandoc(command.help or "").split("\n\n")
    lines = [f'.TH "{_escaped(name.replace(" ", "-").upper())}" 1 "" "Lunette"', ".ad l", ".SH NAME",
             f"{_escaped(name.replace(' ', '-'))} \\- {_escaped(_joined(words[0]))}", ".SH SYNOPSIS",
             f".B {_escaped(name)}", _escaped(" ".join(command.collect_usage_pieces(ctx)))]
    if len(words) > 1:
        lines += [".SH DESCRIPTION", *_paragraphs(words[1:])]
    options = [record for parameter in command.get_params(ctx) if (record := parameter.get_help_record(ctx)) is not None]
    if options:
        lines.append(".SH OPTIONS")
        for flags, text in options:
            lines += [".TP", f".B {_escaped(flags)}", _escaped(_joined(text))]
    if isinstance(command, click.Group):
        lines.append(".SH COMMANDS")
        for each, below in _below(command):
            lines += [".TP", f".B {_escaped(f'{name} {each}')}", _escaped(_joined(below.get_short_help_str(200)))]
    return "\n".join(lines) + "\n"


def _below(command: click.Command) -> list[tuple[str, click.Command]]:
    """A group's commands, by name."""
    if not isinstance(command, click.Group):
        return []
    ctx = click.Context(command)
    found = ((name, command.get_command(ctx, name)) for name in sorted(command.list_commands(ctx)))
    return [(name, each) for name, each in found if each is not None]


def _paragraphs(words: list[str]) -> Iterator[str]:
    for each in words:
        yield ".PP"
        yield _escaped(_joined(each))


def _joined(text: str) -> str:
    return " ".join(text.replace("\b", "").split())


def _escaped(text: str) -> str:
    """As roff takes it: nothing that begins like a request, no hyphen where a minus is meant."""
    shown = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{shown}" if shown.startswith((".", "'")) else shown


COMMANDS: list[click.Command] = [man]
