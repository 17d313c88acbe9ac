"""Commands that change objects and connections. Each only describes its request: it may stand in a batch too."""

from __future__ import annotations

from typing import Any

import click

from target.cli.request import SIZE, Request, RequestCommand, json_option, print_json, show_object

PHYSICAL = click.Choice(["512", "4096"])


@click.command(cls=RequestCommand)
@click.argument("name")
@click.option("--size", "size_bytes", type=SIZE, required=True, help="10G, 512M ...")
@click.option("--block-size", "block_bytes", type=click.Choice(["512", "4096"]), default="512", show_default=True,
              help="Logical block; the map's grain is 4096 either way.")
@click.option("--physical-block", "physical_block_bytes", type=PHYSICAL, help="What hosts are told to align to.  [default: "
              "4096]")
@click.option("--checksum", is_flag=True, help="Keep and verify a CRC32C of every data block.")
@click.option("--quota", "quota_bytes", type=SIZE, default=0, help="At most so many bytes of the pool.")
@click.option("--reserve", "reserve_bytes", type=SIZE, default=0, help="Bytes of the pool kept for this volume.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE")
def create(name: str, size_bytes: int, block_bytes: str, physical_block_bytes: str | None, checksum: bool, quota_bytes: int,
           reserve_bytes: int, labels: tuple[str, ...]) -> Request:
    """Create a volume. It is thin: it takes space as it is written."""
    physical = {} if physical_block_bytes is None else {"physical_block_bytes": int(physical_block_bytes)}
    return Request("create", {"name": name, "size_bytes": size_bytes, "block_bytes": int(block_bytes), "checksum": checksum,
                              "quota_bytes": quota_bytes, "reserve_bytes": reserve_bytes, **physical,
                              "labels": dict(_pair(each) for each in labels)}, show_object)


@click.command(cls=RequestCommand)
@click.argument("names", nargs=-1, required=True, metavar="NAME@LABEL...")
def snapshot(names: tuple[str, ...]) -> Request:
    """Freeze a volume's contents as NAME@LABEL; several volumes at one instant."""
    return Request("snapshot", {"names": list(names)}, show_object)


@click.command(cls=RequestCommand)
@click.argument("source")
@click.argument("name")
def clone(source: str, name: str) -> Request:
    """Make a writable volume NAME from a snapshot or a live volume, without copying."""
    return Request("clone", {"source": source, "name": name}, show_object)


@click.command(cls=RequestCommand)
@click.argument("names", nargs=-1, required=True, metavar="NAME[@LABEL]...")
@click.option("--force", is_flag=True, help="Even when a session has it open; never when it is held.")
def delete(names: tuple[str, ...], force: bool) -> Request:
    """Delete volumes, snapshots or clones, in any order."""
    return Request("delete", {"names": list(names), "force": force})


@click.command(cls=RequestCommand)
@click.argument("name", metavar="NAME[@LABEL]")
@click.argument("tag")
@json_option
def hold(name: str, tag: str, as_json: bool) -> Request:
    """Keep an object from being deleted, by --force too, until the TAG is released."""
    return Request("hold", {"name": name, "tag": tag}, print_json if as_json else _show_held)


@click.command(cls=RequestCommand)
@click.argument("name", metavar="NAME[@LABEL]")
@click.argument("tag")
@json_option
def release(name: str, tag: str, as_json: bool) -> Request:
    """Let go of an object that is held by TAG."""
    return Request("release", {"name": name, "tag": tag}, print_json if as_json else _show_held)


def _show_held(result: dict[str, Any]) -> None:
    click.echo(f"{result['name']}  {result['kind']}  held by {', '.join(result['holds']) or 'nobody'}")


@click.command(cls=RequestCommand)
@click.argument("name", metavar="NAME@LABEL")
@click.option("--safety", metavar="LABEL", default="", help="Snapshot the present contents under this label first.")
@click.option("--force", is_flag=True, help="Even when a session has it open, or its size changes.")
def revert(name: str, safety: str, force: bool) -> Request:
    """Give the volume that a snapshot was taken of its contents again; newer snapshots stay."""
    return Request("revert", {"name": name, "safety": safety, "force": force}, show_object)


@click.command(cls=RequestCommand)
@click.argument("name")
@click.argument("size_bytes", type=SIZE, metavar="SIZE")
@click.option("--force", is_flag=True, help="Also make it smaller, which loses its end.")
def resize(name: str, size_bytes: int, force: bool) -> Request:
    """Change a volume's size, under live initiators."""
    return Request("resize", {"name": name, "size_bytes": size_bytes, "force": force}, show_object)


@click.command(cls=RequestCommand)
@click.argument("name")
@click.argument("new_name")
def rename(name: str, new_name: str) -> Request:
    """Rename an object; a volume's snapshots follow. Identities and connections stay."""
    return Request("rename", {"name": name, "new_name": new_name}, show_object)


@click.command(cls=RequestCommand)
@click.argument("name")
@click.argument("changes", nargs=-1, required=True, metavar="KEY=VALUE|KEY-...")
def label(name: str, changes: tuple[str, ...]) -> Request:
    """Set labels (KEY=VALUE) or remove them (KEY-)."""
    return Request("label", {"name": name, "set": dict(_pair(each) for each in changes if "=" in each),
                             "remove": [_removed(each) for each in changes if "=" not in each]})


@click.command("set", cls=RequestCommand)
@click.argument("name")
@click.option("--quota", "quota_bytes", type=SIZE, help="At most so many bytes of the pool; 0 for no limit.")
@click.option("--reserve", "reserve_bytes", type=SIZE, help="Bytes of the pool kept for this volume.")
@click.option("--physical-block", "physical_block_bytes", type=PHYSICAL, help="What hosts are told to align to; while none has "
              "it open.")
@click.option("--force", is_flag=True, help="Even when a session has it open and more is mapped than the quota.")
def set_(name: str, quota_bytes: int | None, reserve_bytes: int | None, physical_block_bytes: str | None, force: bool) -> Request:
    """Change a volume's quota, reservation of space or physical block."""
    return Request("set", {"name": name, "quota_bytes": quota_bytes, "reserve_bytes": reserve_bytes, "force": force,
                           "physical_block_bytes": None if physical_block_bytes is None else int(physical_block_bytes)},
                   show_object)


@click.command("connect", cls=RequestCommand)
@click.argument("name", metavar="NAME[@LABEL]")
@click.option("--lun", type=int, help="The LUN; the next free one if not given.")
@click.option("--host", help="Only for this host; without it, for every initiator (daemons with --open).")
@click.option("--force", is_flag=True, help="Even when a session uses another object by that number.")
def connect_(name: str, lun: int | None, host: str | None, force: bool) -> Request:
    """Connect an object as a LUN."""
    return Request("connect", {"name": name, "lun": lun, "host": host, "force": force}, show_object)


@click.command(cls=RequestCommand)
@click.argument("name", metavar="NAME[@LABEL]")
@click.option("--host", help="Only from this host.")
@click.option("--force", is_flag=True, help="Even when a session has it open.")
def disconnect(name: str, host: str | None, force: bool) -> Request:
    """Take an object's LUNs away; the object stays."""
    return Request("disconnect", {"name": name, "host": host, "force": force})


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise click.UsageError(f"{text!r} is not KEY=VALUE")
    return key, value


def _removed(text: str) -> str:
    if not text.endswith("-") or len(text) < 2:
        raise click.UsageError(f"{text!r} is neither KEY=VALUE nor KEY-")
    return text[:-1]


COMMANDS: list[click.Command] = [create, snapshot, clone, delete, hold, release, revert, resize, rename, label, set_, connect_,
                                 disconnect]
