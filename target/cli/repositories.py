"""Commands about repositories: backups outside the pool. They run here; the daemon only reads and writes volumes for them."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from target.cli.group import Group
from target.cli.request import connect, json_option, print_json, print_table, show_note, size
from target.cli.work import job_shown, reported
from target.config import find_api_socket
from target.errors import LunetteError

if TYPE_CHECKING:
    from target.repository.format import Manifest
    from target.repository.repository import Repository

Json = dict[str, Any]


def _open(ctx: click.Context, name: str) -> Repository:
    """A repository that the pool knows. LunetteError."""
    from target.repository.repository import Repository
    from target.repository.store import Store

    for row in connect(ctx).get("/v1/repositories"):
        if row["name"] == name:
            return Repository.open(Store(row["url"]), name, row["key_file"])
    raise LunetteError("not_found", f"there is no repository {name}")


def _split(text: str) -> tuple[str, str]:
    """REPO:NAME@LABEL as both. LunetteError invalid."""
    name, colon, backup = text.partition(":")
    if not colon or not name or not backup:
        raise LunetteError("invalid", f"{text!r} is no backup: REPOSITORY:NAME@LABEL, or REPOSITORY:GUID")
    return name, backup


@click.group(cls=Group)
def repo() -> None:
    """Repositories: where backups are kept, in a directory or an S3 store."""


@repo.command("add")
@click.argument("name")
@click.argument("url", metavar="DIRECTORY|s3://BUCKET/PREFIX?endpoint=URL&region=R")
@click.option("--key-file", type=click.Path(), help="Encrypt with this key. Who loses it loses the backups.")
@click.option("--new-key", is_flag=True, help="Make the key file first.")
@json_option
@click.pass_context
def add(ctx: click.Context, name: str, url: str, key_file: str | None, new_key: bool, as_json: bool) -> None:
    """Use a repository, and make it if the place is empty. S3 credentials come from the environment (AWS_ACCESS_KEY_ID ...)."""
    from target.repository.repository import Repository
    from target.repository.sealing import make_key_file
    from target.repository.store import Store, check_url

    if new_key and key_file is None:
        raise click.UsageError("--new-key makes the file that --key-file names")
    client, url = connect(ctx), check_url(url)
    if any(row["name"] == name for row in client.get("/v1/repositories")):
        raise LunetteError("exists", f"there is a repository {name} already")
    key_path = None if key_file is None else os.path.abspath(key_file)
    if new_key and key_path is not None:
        make_key_file(key_path)
    repository = Repository.open(Store(url, make=True), name, key_path, make=True)
    encrypted = repository.sealer.cipher is not None
    if not encrypted and key_path is not None:
        raise LunetteError("invalid", f"repository {name} is there already and is not encrypted: leave --key-file away")
    result = client.command("repo_add", {"name": name, "url": url, **({"key_file": key_path} if key_path else {})})
    if as_json:
        print_json({**result, "encrypted": encrypted})
    else:
        click.echo(f"{name}  {url}  {'encrypted' if encrypted else 'not encrypted'}")


@repo.command("rm")
@click.argument("names", nargs=-1, required=True, metavar="NAME|NAME:BACKUP...")
@json_option
@click.pass_context
def remove(ctx: click.Context, names: tuple[str, ...], as_json: bool) -> None:
    """Forget a repository, which stays as it is; or delete backups in it (REPO:NAME@LABEL), in any order."""
    removed = []
    for text in names:
        if ":" in text:
            name, backup = _split(text)
            repository = _open(ctx, name)
            repository.forget(repository.find(backup))
        else:
            connect(ctx).command("repo_rm", {"name": text})
        removed.append(text)
    if as_json:
        print_json({"removed": removed})


@repo.command("ls")
@click.argument("name", required=False)
@json_option
@click.pass_context
def list_(ctx: click.Context, name: str | None, as_json: bool) -> None:
    """List repositories; with NAME the backups in one, and which of them are known to be damaged."""
    if name is None:
        rows = connect(ctx).get("/v1/repositories")
        if as_json:
            print_json(rows)
        else:
            print_table([[row["name"], row["url"], row["key_file"]] for row in rows], ["NAME", "URL", "KEY FILE"])
        return
    from target.repository.collection import damaged_backups

    repository = _open(ctx, name)
    manifests = repository.manifests()
    damaged = damaged_backups(repository, manifests)
    rows = [{**_row(each), "damaged": damaged.get(each.guid, [])} for each in manifests]
    if as_json:
        print_json(rows)
        return
    print_table([[row["name"], size(row["size_bytes"]), size(row["new_bytes"]), _time(row["created_s"]), _time(row["stored_s"]),
                  "damaged" if row["damaged"] else "ok", row["guid"]] for row in rows],
                ["BACKUP", "SIZE", "ADDED", "SNAPSHOT OF", "STORED", "STATE", "GUID"], right=frozenset({"SIZE", "ADDED"}))


@repo.command("check")
@click.argument("name")
@click.option("--data", is_flag=True, help="Read all packs, too.")
@json_option
@click.pass_context
def check(ctx: click.Context, name: str, data: bool, as_json: bool) -> int:
    """Look whether everything that backups need is there and whole. What is not is marked: the next backup stores it again."""
    from target.repository.collection import check as look

    repository = _open(ctx, name)
    with reported(connect(ctx), "check", repository=name, unit="packs") as told:
        found = look(repository, data=data, told=told)
    if as_json:
        print_json(asdict(found))
    else:
        for where, why in found.damage.items():
            click.echo(f"{where}: {why}")
        for backup, bad in found.backups.items():
            click.echo(f"{backup} is damaged ({len(bad)} objects)")
        click.echo(f"{name}: {found.objects} objects, {'NOT whole' if found.damage else 'whole'}")
    return 1 if found.damage else 0


@repo.command("verify")
@click.argument("backup", metavar="REPO:NAME@LABEL")
@json_option
@click.pass_context
def verify(ctx: click.Context, backup: str, as_json: bool) -> None:
    """Read a backup as a restore does, decrypt it and verify each frame. Nothing is written."""
    from target.repository.restore import Progress
    from target.repository.restore import verify as run

    name, wanted = _split(backup)
    repository = _open(ctx, name)
    manifest = repository.find(wanted)
    with reported(connect(ctx), "verify", name=manifest.name, repository=name) as told:
        progress = Progress(told=told)
        asyncio.run(run(repository, manifest, progress))
    if as_json:
        print_json({**_row(manifest), "verified_bytes": progress.done_bytes})
    else:
        click.echo(f"{manifest.name}  {size(progress.done_bytes)} verified")


@repo.command("gc")
@click.argument("name")
@click.option("--grace", "grace_s", type=click.FloatRange(0), default=3600.0, show_default=True, metavar="SECONDS",
              help="How long ago something must have been marked to be swept.")
@click.option("--repack/--no-repack", default=True, help="Also write anew what is needed of packs that are mostly dead.")
@json_option
@click.pass_context
def collect(ctx: click.Context, name: str, grace_s: float, repack: bool, as_json: bool) -> None:
    """Mark what no backup refers to; sweep what earlier runs marked. Safe beside backups."""
    from target.repository.collection import collect as run
    from target.repository.repacking import repack as run_repack

    repository = _open(ctx, name)
    with reported(connect(ctx), "gc", repository=name, unit="packs") as told:
        moved = run_repack(repository, told=told) if repack else None
        found = run(repository, grace_s=grace_s)
    if as_json:
        print_json({**asdict(found), "repacked": moved and asdict(moved)})
    else:
        if moved is not None and moved.packs:
            click.echo(f"{name}: {moved.packs} packs were mostly dead, {size(moved.moved_bytes)} of them written anew")
        click.echo(f"{name}: {found.swept} objects swept ({size(found.swept_bytes)}), {found.marked} marked, "
                   f"{found.waiting} wait")


@click.command()
@click.argument("name", metavar="NAME@LABEL")
@click.option("--repo", "repository_name", required=True, help="The repository.")
@json_option
@click.pass_context
def backup(ctx: click.Context, name: str, repository_name: str, as_json: bool) -> None:
    """Store a snapshot in a repository: what differs from the newest backup of its volume whose snapshot is still here.

    Damaged backups of the volume are mended first, those whose snapshots are still here.
    """
    from target.repository.jobs import back_up_volume

    repository = _open(ctx, repository_name)
    client = connect(ctx)
    objects, pool = client.get("/v1/objects"), client.get("/v1/pool")["name"]
    with reported(client, "backup", name=name, repository=repository_name) as told:
        done = asyncio.run(back_up_volume(repository, find_api_socket(ctx.find_root().obj), objects, pool, name, told=told))
    if as_json:
        print_json({**_row(done.manifest), "repository": repository_name, "base": done.base, "mended": done.mended,
                    "stored": done.stored, **done.progress.as_json()})
        return
    for each in done.mended:
        click.echo(f"{each}: mended")
    beside = f" beside {done.base}" if done.base else ""
    click.echo(f"{name}: {size(done.progress.new_bytes)} new{beside}" if done.stored else f"{name}: is there already, and whole")


@click.command()
@click.argument("source", metavar="REPO:NAME@LABEL")
@click.argument("name", metavar="NAME")
@json_option
@click.pass_context
def restore(ctx: click.Context, source: str, name: str, as_json: bool) -> None:
    """Make a new volume of a backup. It appears when it is whole, or not at all.

    A volume that is there, and has another snapshot that the repository has, stays as it is and gets the backup as one more
    snapshot. Only what differs is read and written.
    """
    from target.repository.restore import Progress
    from target.repository.restore import restore as run

    repository_name, wanted = _split(source)
    repository = _open(ctx, repository_name)
    manifest, progress, client = repository.find(wanted), Progress(), connect(ctx)
    with job_shown(client, "restore"):
        made = asyncio.run(run(repository, manifest, client.path, name, progress))
    if as_json:
        print_json({"name": name, "size_bytes": manifest.size_bytes, "url": made.get("url"), "backup": manifest.name,
                    "snapshot": made["received"][0], "restored_bytes": progress.done_bytes})
    else:
        what = f"{made['received'][0]}  snapshot" if made["note"] else f"{name}  volume"
        said = f"{what}  {size(manifest.size_bytes)}  {size(progress.done_bytes)} restored  {made.get('url') or ''}"
        click.echo(said.rstrip())
        show_note(made["note"])


def _row(manifest: Manifest) -> Json:
    return asdict(manifest)


def _time(at_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at_s))


COMMANDS: list[click.Command] = [repo, backup, restore]
