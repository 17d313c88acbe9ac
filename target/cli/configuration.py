"""Commands that write a pool's configuration into a file, and take one from a file. Secrets have a file of their own."""

from __future__ import annotations

import json
import os
from typing import IO, Any

import click

from target.cli.request import connect, json_option, print_json
from target.errors import LunetteError


@click.command("export-config")
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True), default="-")
@click.option("--secrets", type=click.Path(dir_okay=False), help="Write the hosts' secrets into this file, for you alone.")
@click.pass_context
def export_config(ctx: click.Context, file: str, secrets: str | None) -> None:
    """Write hosts, connections, limits, schedules and thresholds of the running daemon's pool as JSON. No tokens.

    Without --secrets none is in it: who imports it has to give them.
    """
    found = connect(ctx).command("config_export", {"secrets": secrets is not None})
    text = json.dumps(found["configuration"], indent=1) + "\n"
    if secrets is not None:
        _write_new(secrets, json.dumps(found["secrets"], indent=1) + "\n", 0o600)
    if file == "-":
        click.echo(text, nl=False)
    else:
        _write_new(file, text, 0o644)


def _write_new(path: str, text: str, mode: int) -> None:
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise LunetteError("exists" if isinstance(error, FileExistsError) else "invalid",
                           f"cannot write {path}: {error.strerror}") from None


@click.command("import-config")
@click.argument("file", type=click.File("r", encoding="utf-8", errors="replace"))
@click.option("--secrets", type=click.File("r", encoding="utf-8", errors="replace"), help="The hosts' secrets, as exported.")
@click.option("--dry-run", is_flag=True, help="Only say what would change.")
@click.option("--partial", is_flag=True, help="Leave out what concerns objects that are not there.")
@click.option("--force", is_flag=True, help="Also change what is there and different, even when a session uses it.")
@json_option
@click.pass_context
def import_config(ctx: click.Context, file: IO[str], secrets: IO[str] | None, dry_run: bool, partial: bool, force: bool,
                  as_json: bool) -> None:
    """Take hosts, connections, limits, schedules and thresholds from a file that export-config wrote: all of it, or nothing.

    Adds to what is there. Objects and hosts are meant by name.
    """
    args = {"configuration": _read_json(file), "secrets": {} if secrets is None else _read_json(secrets), "dry_run": dry_run,
            "partial": partial, "force": force}
    result = connect(ctx).command("config_import", args)
    if as_json:
        print_json(result)
        return
    for line in result["changes"]:
        click.echo(f"would {line}" if dry_run else line)
    for name in result["skipped"]:
        click.echo(f"not there: {name}", err=True)
    click.echo(f"{len(result['changes'])} {'to change' if dry_run else 'changed'}, {result['unchanged']} as they were")


def _read_json(file: IO[str]) -> Any:
    try:
        return json.load(file)
    except (ValueError, RecursionError) as error:
        raise LunetteError("invalid", f"{file.name} is not JSON: {error}") from None
