"""Commands about the pool itself: create, check, grow, info and more. Create and check need no daemon."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from target.cli import completion
from target.cli.configuration import export_config, import_config
from target.cli.group import Group
from target.cli.model import model_command
from target.cli.request import SIZE, connect, json_option, print_json, rounded, size
from target.cli.work import background_options, work
from target.config import format_size
from target.models.pool import Grow, SetThresholds


@click.group(cls=Group)
def pool() -> None:
    """The pool: one file or block device that everything lives in."""


@pool.command("create")
@click.argument("path", type=click.Path())
@click.option("--size", "size_bytes", type=SIZE, help="How large the pool is; needed for a new file.")
@click.option("--name", help="The pool's name, part of its target's name; PATH's file name without suffix if not given.")
def create(path: str, size_bytes: int | None, name: str | None) -> None:
    """Format a new file (sparse), a blank block device, or an image of a Ceph cluster: rbd:POOL/IMAGE[@CONF].

    Never overwrites anything.
    """
    from target.volumes.gateway import create_pool, usual_name
    from target.volumes.identity import checked_name

    chosen = name or usual_name(path)
    made = create_pool(path, name=checked_name(chosen), size_bytes=size_bytes)
    click.echo(f"{path}: pool {chosen}, {format_size(made)}{_whose(path)}")
    if note := rounded({"name": "pool", "size_bytes": made, "asked_bytes": size_bytes or made}):
        click.echo(note)


def _whose(path: str) -> str:
    """Of a new file that is not its maker's; of an image of a Ceph cluster nothing."""
    try:
        return "" if os.stat(path).st_uid == os.geteuid() else f", the user {Path(path).owner()}'s, as its directory is"
    except (OSError, KeyError):
        return ""


@pool.command("new-identity")
@click.argument("path", type=click.Path())
@click.option("--name", default="", help="Its new name; the old one with eight digits behind it if not given.")
@click.option("--takeover", is_flag=True, help="Its last owner cannot be seen from here, and is gone for certain.")
@json_option
def new_identity(path: str, name: str, takeover: bool, as_json: bool) -> None:
    """Make a copy of a pool a pool of its own: new uuid, target name, serials and device identifiers. Nobody may serve it."""
    from target.volumes.identity import new_identity as give

    facts = give(path, name=name, takeover=takeover)
    if as_json:
        print_json(facts)
    else:
        click.echo(f"{path}: pool {facts['name']}, uuid {facts['uuid']}, target {facts['target']}")


@pool.command("check")
@click.argument("path", type=click.Path())
@click.option("--data", is_flag=True, help="Read and verify the data of volumes with checksums, too.")
@json_option
def check(path: str, data: bool, as_json: bool) -> int:
    """Verify every checksum, count and reference of a pool that nobody serves; exit status 1 if it is not clean."""
    from target.volumes.gateway import check_pool

    clean, errors, summary = check_pool(path, data=data)
    if as_json:
        print_json({"clean": clean, "errors": errors, "summary": summary})
        return 0 if clean else 1
    for line in errors:
        click.echo(line)
    verdict = "clean" if clean else f"NOT clean, {len(errors)} errors"
    click.echo(f"{path}: {verdict}" + (f" ({summary})" if summary else ""))
    return 0 if clean else 1


def _show_grown(result: dict[str, Any]) -> None:
    click.echo(f"pool {size(result['size_bytes'])}")
    if note := rounded(result):
        click.echo(note)


pool.add_command(model_command(Grow, "grow", show=_show_grown))
pool.add_command(model_command(SetThresholds, "set", command="thresholds", show=lambda result: click.echo(
    f"soft {result['soft_percent']} %  hard {result['hard_percent']} %  now {result['space']}")))


@pool.command("trim")
@background_options("Give back at most so many bytes a second.")
@click.pass_context
def trim(ctx: click.Context, rate_bytes: int, background: bool, only_status: bool, stop: bool, as_json: bool) -> int:
    """Give all free space of the running daemon's pool back to its file system or device: holes, or discards."""
    state = work(ctx, "/v1/trim", _trimmed, rate_bytes=rate_bytes, background=background, only_status=only_status, stop=stop)
    if as_json:
        print_json(state)
    else:
        click.echo(f"{state['state']}: {_trimmed(state)}" if "found_bytes" in state else state["state"])
    return 1 if str(state["state"]).startswith("failed") else 0


def _trimmed(state: dict[str, Any]) -> str:
    return (f"{size(state['looked_bytes'])} of {size(state['size_bytes'])} looked at, {size(state['found_bytes'])} free, "
            f"{size(state['trimmed_bytes'])} given back")


@pool.command("defrag")
@click.argument("name", required=False, default="", shell_complete=completion.objects)
@background_options("Move at most so many bytes a second.")
@click.pass_context
def defrag(ctx: click.Context, name: str, rate_bytes: int, background: bool, only_status: bool, stop: bool, as_json: bool) -> int:
    """Put blocks that snapshots have scattered into order: those of volume NAME, or of all."""
    state = work(ctx, "/v1/defrag", _moved, rate_bytes=rate_bytes, background=background, only_status=only_status, stop=stop,
                 **({"name": name} if name else {}))
    if as_json:
        print_json(state)
    else:
        click.echo(f"{state['state']}: {_moved(state)}" if "moved_bytes" in state else state["state"])
    return 1 if str(state["state"]).startswith("failed") else 0


def _moved(state: dict[str, Any]) -> str:
    left = f"; {size(state['left_bytes'])} lie scattered and find no free run of 2M" if state.get("left_bytes") else ""
    return f"{size(state['looked_bytes'])} of {size(state['mapped_bytes'])} looked at, {size(state['moved_bytes'])} moved{left}"


@pool.command("info")
@click.argument("path", type=click.Path(), required=False)
@json_option
@click.pass_context
def info(ctx: click.Context, path: str | None, as_json: bool) -> None:
    """Show the running daemon's pool; with PATH what a file or device says of itself, and who serves it."""
    if path is not None:
        from target.volumes.identity import describe_pool

        value = describe_pool(path)
    else:
        value = connect(ctx).get("/v1/pool")
    if as_json:
        print_json(value)
        return
    damage, events = value.pop("damage", []), value.pop("events", [])
    for key, item in value.items():
        shown = size(item) if key.endswith("_bytes") else " ".join(item) if isinstance(item, list) else item
        click.echo(f"{key} {shown}")
    for line in damage:
        click.echo(f"damage: {line}")
    for line in events:
        click.echo(f"event: {line}")


pool.add_command(export_config)
pool.add_command(import_config)

COMMANDS: list[click.Command] = [pool]
