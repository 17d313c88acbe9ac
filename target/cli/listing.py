"""Commands that look: ls, stats, sessions, diff, scrub."""

from __future__ import annotations

import fnmatch
import json
import sys
import time
from typing import Any

import click

from target.cli import completion
from target.cli.request import SIZE, connect, json_option, limits, print_json, print_table, show_note, size
from target.cli.work import background_options, work
from target.client import Client
from target.errors import LunetteError

NUMBERS = frozenset({"SIZE", "MAPPED", "EXCLUSIVE", "LUN", "FAST", "SLOW", "READ", "WRITTEN", "ERRORS", "LUNS"})


SORTS: dict[str, tuple[str, bool]] = {     # name -> the key, and whether the largest comes first
    "name": ("name", False), "kind": ("kind", False), "size": ("size_bytes", True), "mapped": ("mapped_bytes", True),
    "exclusive": ("exclusive_bytes", True), "created": ("created_s", True), "lun": ("lun", False), "origin": ("origin", False)}


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME|GLOB]...", shell_complete=completion.objects)
@click.option("--sort", type=click.Choice(list(SORTS)), default="name", show_default=True, help="By what; sizes and times: the "
              "largest or newest first.")
@click.option("--reverse", "-r", is_flag=True, help="The other way round.")
@json_option
@click.pass_context
def ls(ctx: click.Context, names: tuple[str, ...], sort: str, reverse: bool, as_json: bool) -> None:
    """List volumes, snapshots and clones: sizes, origin, LUN, URL and holds. A glob ('web*', '*@nightly-*') means all like it."""
    rows = _sorted(_listed(connect(ctx), names), sort, reverse)
    if as_json:
        print_json(rows)
        return
    print_table([[row["name"], row["kind"], size(row["size_bytes"]), size(row["mapped_bytes"]), size(row["exclusive_bytes"]),
                  _origin(row), row["lun"], row["url"], " ".join(row["holds"]), limits(row)] for row in rows],
                ["NAME", "KIND", "SIZE", "MAPPED", "EXCLUSIVE", "ORIGIN", "LUN", "URL", "HELD BY", "LIMITS"], right=NUMBERS)
    for row in rows:
        if row["damaged_pages"]:
            click.echo(f"{row['name']} is damaged: {row['damaged_pages']} pages of its map (lunette pool info)", err=True)
    _pool_notes(connect(ctx).get("/v1/pool"))


def _listed(client: Client, names: tuple[str, ...]) -> list[dict[str, Any]]:
    if len(names) == 1 and not _is_glob(names[0]):
        found: list[dict[str, Any]] = client.get("/v1/objects", name=names[0])
        return found
    rows: list[dict[str, Any]] = client.get("/v1/objects")
    for name in names:
        if not _is_glob(name) and all(row["name"] != name for row in rows):
            raise LunetteError("not_found", f"there is no {name!r}")
    return [row for row in rows if not names or any(fnmatch.fnmatchcase(row["name"], name) for name in names)]


def _is_glob(name: str) -> bool:
    return any(each in name for each in "*?[")


def _sorted(rows: list[dict[str, Any]], sort: str, reverse: bool) -> list[dict[str, Any]]:
    """What has no value (no LUN, nothing known) comes last either way."""
    key, largest_first = SORTS[sort]
    known = sorted((row for row in rows if row[key] is not None), key=lambda row: row[key], reverse=largest_first != reverse)
    return known + [row for row in rows if row[key] is None]


def _pool_notes(pool: dict[str, Any]) -> None:
    """What everybody who lists volumes should know of their pool, on stderr."""
    if pool["failure"]:
        click.echo(f"the pool is read-only: {pool['failure']} (lunette pool info)", err=True)
    if pool["space"] != "ok":
        below = f", {size(pool['medium_free_bytes'])} in the file system below" if "medium_free_bytes" in pool else ""
        click.echo(f"the pool is short of space ({pool['space']}): {size(pool['available_bytes'])} may still be written{below}",
                   err=True)


def _origin(row: dict[str, Any]) -> str:
    return f"{row['origin']} (deleted)" if row["origin_deleted"] else row["origin"]


@click.command()
@json_option
@click.pass_context
def stats(ctx: click.Context, as_json: bool) -> None:
    """Show fast (native) and slow (Python) commands per LUN, and the pool's state."""
    value = connect(ctx).get("/v1/stats")
    if as_json:
        print_json(value)
        return
    print_table([[row["name"], row["lun"], row["fast"], row["slow"], size(row["read_bytes"]), size(row["write_bytes"]),
                  row["errors"]] for row in value["luns"]],
                ["NAME", "LUN", "FAST", "SLOW", "READ", "WRITTEN", "ERRORS"], right=NUMBERS)
    pool = value["pool"]
    click.echo()
    for key in sorted(pool):
        if isinstance(pool[key], (int, float)) and not isinstance(pool[key], bool):
            click.echo(f"{key} {size(pool[key]) if key.endswith('_bytes') else pool[key]}")
    click.echo(f"sessions {value['sessions']}, connections {value['connections']}")


@click.command()
@json_option
@click.pass_context
def sessions(ctx: click.Context, as_json: bool) -> None:
    """List who is logged in."""
    rows = connect(ctx).get("/v1/sessions")
    if as_json:
        print_json(rows)
        return
    print_table([[row["initiator"], row["peer"], row["host"], row["luns"],
                  ",".join(map(str, row["in_use"])), time.strftime("%F %T", time.localtime(row["started_s"]))]
                 for row in rows], ["INITIATOR", "PEER", "HOST", "LUNS", "IN USE", "SINCE"], right=NUMBERS)


@click.command()
@click.argument("a")
@click.argument("b")
@click.option("--offset", "offset_bytes", type=SIZE, default=0, help="Begin here, not at the start.")
@click.option("--limit", type=click.IntRange(1), help="At most so many ranges.")
@click.option("--header/--no-header", default=True, help="Whether the first item says who A and B are.  [default: it does]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, as it does anyhow.")
@click.pass_context
def diff(ctx: click.Context, a: str, b: str, offset_bytes: int, limit: int | None, header: bool, as_json: bool) -> None:
    """List the byte ranges in which A and B may differ, as a JSON array.

    Its first item has the name, GUID and size of both. "content" is what B holds in a range: data, a hole, or beyond: B ends
    before it.
    """
    query = {"offset": str(offset_bytes), "header": str(int(header)), **({} if limit is None else {"limit": str(limit)})}
    try:
        for piece in connect(ctx).stream("/v1/diff", show_note, a=a, b=b, **query):
            sys.stdout.buffer.write(piece)
    finally:
        sys.stdout.buffer.flush()


@click.command()
@background_options("Read at most so many bytes a second.")
@click.pass_context
def scrub(ctx: click.Context, rate_bytes: int, background: bool, only_status: bool, stop: bool, as_json: bool) -> int:
    """Read all data and metadata of the pool and verify checksums; exit status 1 if something is damaged."""
    state = work(ctx, "/v1/scrub", _progress, rate_bytes=rate_bytes, background=background, only_status=only_status, stop=stop)
    if as_json:
        click.echo(json.dumps(state, indent=2))
    else:
        for row in state.get("damaged", []):
            click.echo(f"damaged: {row['name']} {_damage(row)}")
        click.echo(f"{state['state']}: {_progress(state)}" if "objects" in state else state["state"])
    return 1 if state.get("damaged") or str(state["state"]).startswith("failed") else 0


def _damage(row: dict[str, Any]) -> str:
    where = f"{row['length_bytes']} bytes at {row['offset_bytes']}"
    if "block" not in row:
        return f"{where} ({row['code']})"
    return f"{row['part']} page at block {row['block']}" + (f", which maps {where}" if row["length_bytes"] else "")


def _progress(state: dict[str, Any]) -> str:
    return (f"{state['objects_done']} of {state['objects']} objects, {size(state['read_bytes'])} read, "
            f"{state['metadata_pages']} pages of metadata")


COMMANDS: list[click.Command] = [ls, stats, sessions, diff, scrub]
