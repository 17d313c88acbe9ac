"""What `backup` does: which base it takes, what it mends on the way, then the backup itself."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from target.errors import LunetteError
from target.repository.backup import Progress, back_up
from target.repository.collection import damaged_backups
from target.repository.format import PACK_BYTES, Manifest
from target.repository.repository import Repository
from target.repository.source import Source
from target.repository.telling import Told, untold

Row = dict[str, Any]        # an object as the API lists it


@dataclass(slots=True)
class Done:
    manifest: Manifest
    base: str | None = None
    stored: bool = True                 # False: it was there already, and whole
    mended: list[str] = field(default_factory=list)
    progress: Progress = field(default_factory=Progress)


async def back_up_volume(repository: Repository, api_path: str, objects: Sequence[Row], pool: str, name: str, *,
                         pack_bytes: int = PACK_BYTES, told: Told = untold) -> Done:
    """Store NAME@LABEL. LunetteError: not_found, invalid (no snapshot), exists, store, and what the daemon says."""
    row = next((each for each in objects if each["name"] == name), None)
    if row is None:
        raise LunetteError("not_found", f"there is no {name!r}")
    if row["kind"] != "snapshot":
        raise LunetteError("invalid", f"{name} is no snapshot: only what does not change is backed up")
    here = {each["guid"]: each for each in objects if each["kind"] == "snapshot" and each["origin_id"] == row["origin_id"]}
    manifests = await asyncio.to_thread(repository.manifests)
    damaged = await asyncio.to_thread(damaged_backups, repository, manifests)
    mended = []
    for manifest in manifests:
        if manifest.guid in damaged and manifest.guid in here:
            await _mend(repository, api_path, here[manifest.guid], manifest, pool, pack_bytes)
            mended.append(manifest.name)
    there = {each.guid: each for each in await asyncio.to_thread(repository.manifests)} if mended else {
        each.guid: each for each in manifests}
    if row["guid"] in there:
        return Done(there[row["guid"]], stored=False, mended=mended)
    base = _base(row, [each for guid, each in there.items() if guid in here])
    progress = Progress(told=told)
    source = Source(api_path, row, repository.name)
    since = None if base is None else here[base.guid]["name"]
    manifest = await back_up(repository, source, base, since, progress, pool=pool, pack_bytes=pack_bytes)
    return Done(manifest, None if base is None else base.name, mended=mended, progress=progress)


def _base(row: Row, common: Sequence[Manifest]) -> Manifest | None:
    """The newest that is older than the snapshot; else the oldest of those after it."""
    before = [each for each in common if each.created_s <= row["created_s"]]
    if before:
        return max(before, key=lambda each: each.created_s)
    return min(common, key=lambda each: each.created_s, default=None)


async def _mend(repository: Repository, api_path: str, row: Row, manifest: Manifest, pool: str, pack_bytes: int) -> None:
    """Store again what is damaged of a backup whose snapshot is still here."""
    source = Source(api_path, row, repository.name)
    await back_up(repository, source, manifest, None, Progress(), pool=pool, pack_bytes=pack_bytes)
