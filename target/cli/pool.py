"""Commands about the pool itself (create, check, grow, info), and serve. Create, check and serve need no daemon."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from target.cli.model import model_command
from target.cli.request import SIZE, connect, json_option, print_json, rounded, size
from target.cli.work import background_options, work
from target.config import (
    LEASE_SECONDS,
    Portal,
    ServeConfig,
    find_api_socket,
    format_size,
    parse_advertised,
    parse_portal,
)
from target.errors import LunetteError
from target.models.pool import Grow, SetThresholds


@click.group()
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
    click.echo(f"{path}: pool {chosen}, {format_size(made)}")
    if note := rounded({"name": "pool", "size_bytes": made, "asked_bytes": size_bytes or made}):
        click.echo(note)


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


@click.command()
@click.argument("path", type=click.Path())
@click.option("--listen", "portals", multiple=True, metavar="ADDR:PORT[,GROUP]",
              help="Where initiators connect; more than once for several. GROUP is the portal group. Default 127.0.0.1:3260.")
@click.option("--advertise", "advertised", multiple=True, metavar="ADDR|NETWORK",
              help="What discovery tells of wildcard portals. Default: the machine's addresses, but for inner bridges.")
@click.option("--api", "api", metavar="SOCKET", help="Where the API listens.")
@click.option("--open", "open_access", is_flag=True, help="Let every initiator in; loopback only.")
@click.option("--force-open", is_flag=True, help="Let every initiator in on any address. Anyone who reaches it owns the data.")
@click.option("--reactors", type=click.IntRange(1, 64), default=1, show_default=True, help="Data-plane threads.")
@click.option("--poll-us", type=click.IntRange(0, 10000), default=50, show_default=True,
              help="Spin at most so long before sleeping, while commands come one by one.")
@click.option("--cache", "cache_bytes", type=SIZE, default=256 << 20, help="Memory for map and counts. Default 256M.")
@click.option("--max-sessions", type=click.IntRange(1, 4096), default=4096, show_default=True, help="Sessions in all.")
@click.option("--max-sessions-per-initiator", type=click.IntRange(1, 4096), default=1024, show_default=True,
              help="Sessions of one initiator name; QEMU opens one a disk.")
@click.option("--direct", is_flag=True, help="Bypass the page cache (O_DIRECT).")
@click.option("--takeover", is_flag=True, help="Its last owner cannot be seen from here, and is gone for certain.")
@click.option("--same-identity", is_flag=True, help="Serve it though this machine serves a pool with the same identity.")
@click.option("--lease", "lease_seconds", type=click.FloatRange(2, 300), default=LEASE_SECONDS, show_default=True,
              metavar="SECONDS", help="How long the owner may be silent, where another machine may reach the pool.")
@click.option("--verbose", "-v", is_flag=True, help="Log connections, too.")
@click.pass_context
def serve(ctx: click.Context, path: str, portals: tuple[str, ...], advertised: tuple[str, ...], api: str | None,
          open_access: bool, force_open: bool, reactors: int, poll_us: int, cache_bytes: int, max_sessions: int,
          max_sessions_per_initiator: int, direct: bool, takeover: bool, same_identity: bool,
          lease_seconds: float, verbose: bool) -> int:
    """Serve a pool in the foreground. Ready when the portals are printed; SIGTERM or Ctrl-C stops it cleanly."""
    try:
        chosen = tuple(parse_portal(each) for each in portals) or (Portal("127.0.0.1"),)
        networks = tuple(parse_advertised(each) for each in advertised)
    except LunetteError as error:
        raise click.BadParameter(str(error)) from None
    from target.volumes.owner import begin

    config = ServeConfig(
        pool_path=Path(path), portals=chosen, advertise=networks,
        api_path=Path(find_api_socket(api or ctx.find_root().obj, serving=True)),
        open_access=open_access or force_open, force_open=force_open, reactors=reactors, poll_us=poll_us,
        cache_bytes=cache_bytes, max_sessions=max_sessions, max_sessions_per_initiator=max_sessions_per_initiator, direct=direct,
        takeover=takeover, same_identity=same_identity, lease_seconds=lease_seconds, verbose=verbose)
    opening = begin(config)             # it waits more than it works: the daemon's modules are loaded beside it
    from target.server.daemon import serve as run

    return run(config, opening=opening)


COMMANDS: list[click.Command] = [pool, serve]
