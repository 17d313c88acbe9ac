"""Upkeep: what is damaged is found and marked; what nothing refers to is marked, and swept by a later collection.

A collection never sweeps what it has marked itself. It sweeps a mark when every writer at work knows of it, and what is referred
to by then stays (docs/repositories.md, "Collection").
"""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import dataclass, field

from target.errors import LunetteError
from target.repository.format import MARKS, PACKS, PAGES, TREES, Malformed, Manifest, path
from target.repository.repository import Repository
from target.repository.telling import Told, untold

MISSING = "missing"
GRACE_SECONDS = 3600.0          # that a mark is old before it is swept: what was listed late is listed by then


@dataclass(slots=True)
class Checked:
    """What a check found: damage by path, and the backups that it is in by name."""

    objects: int = 0
    damage: dict[str, str] = field(default_factory=dict)
    backups: dict[str, list[str]] = field(default_factory=dict)


@dataclass(slots=True)
class Collected:
    marked: int = 0
    swept: int = 0
    swept_bytes: int = 0
    waiting: int = 0            # marked before, and not swept: too young, or a writer does not know of it


def check(repository: Repository, *, data: bool, told: Told = untold) -> Checked:
    """Look at all that backups refer to; with `data` also read all packs. What is damaged is marked, what is whole is mended."""
    found = Checked()
    listed = {**repository.store.list(PACKS), **repository.store.list(PAGES), **repository.store.list(TREES)}
    needs: dict[str, set[str]] = {}
    sizes: dict[str, int] = {}
    looked: dict[str, str | None] = {}      # path -> what is wrong
    for manifest in repository.manifests():
        where = path(TREES, manifest.tree)
        try:
            tree = repository.tree(manifest.tree)
        except Malformed as error:
            looked[where] = str(error)
            needs[manifest.name] = {where}
            continue
        looked[where] = None
        needs[manifest.name] = repository.paths(manifest, tree)
        sizes.update({path(PACKS, name): size for name, size in tree.sizes.items()})
        for page in {each for each in tree.pages if each is not None}:
            if path(PAGES, page) not in looked:
                looked[path(PAGES, page)] = _page_damage(repository, page, tree.sizes)
    packs = sorted({each for paths in needs.values() for each in paths if each.startswith(PACKS)})
    for done, where in enumerate(packs):
        told(done, len(packs), 0)
        looked[where] = _pack_damage(repository, where, sizes[where], where in listed and listed[where].size_bytes, data=data)
    known = repository.damaged()
    for where, why in looked.items():
        if why is not None:
            found.damage[where] = why
            repository.mark_damaged(where, why)
        elif where in known and (data or not where.startswith(PACKS) or known[where] == MISSING):
            repository.mend(where)
        elif where in known:
            found.damage[where] = known[where]      # only a look at its data takes that back
    found.objects = len(looked)
    found.backups = {name: bad for name, paths in needs.items() if (bad := sorted(paths & found.damage.keys()))}
    return found


def _page_damage(repository: Repository, page: str, sizes: dict[str, int]) -> str | None:
    try:
        repository.page(page, sizes)
        return None
    except Malformed as error:
        return str(error)


def _pack_damage(repository: Repository, where: str, size_bytes: int, listed_bytes: int | bool, *, data: bool) -> str | None:
    if listed_bytes is False:
        return MISSING
    if listed_bytes != size_bytes:
        return f"it has {listed_bytes} bytes instead of {size_bytes}"
    if data:
        raw = repository.store.get(where)
        if raw is None:
            return MISSING
        if hashlib.sha256(raw).hexdigest() != where.rpartition("/")[2]:
            return "rotten: its contents are not those that were stored"
    return None


def damaged_backups(repository: Repository, manifests: list[Manifest]) -> dict[str, list[str]]:
    """By GUID, what is known to be damaged of each backup."""
    known = repository.damaged().keys()
    found: dict[str, list[str]] = {}
    for manifest in manifests if known else ():
        try:
            bad = sorted(repository.paths(manifest) & known)
        except Malformed as error:
            bad = [str(error)]
        if bad:
            found[manifest.guid] = bad
    return found


def collect(repository: Repository, *, grace_s: float = GRACE_SECONDS) -> Collected:
    """Sweep what earlier collections marked and nothing refers to, then mark what nothing refers to now.

    LunetteError damaged when a backup cannot be read: what it refers to is not known.
    """
    result = Collected()
    store = repository.store
    listed = {**store.list(PACKS), **store.list(PAGES), **store.list(TREES)}     # first: what is newer is not in it
    marks = repository.marked()
    now_s = repository.now_s()
    ages = {where: now_s - stat.modified_s for where, stat in store.list(MARKS).items()}
    writers = repository.writers()
    live, damaged = _live(repository), repository.damaged()
    for where, marked in marks.items():
        if ages.get(where, 0.0) < grace_s or any(where not in known for known in writers.values()):
            result.waiting += len(marked - live)
            continue
        for each in sorted(marked - live):
            store.delete(each)
            result.swept += 1
            result.swept_bytes += listed[each].size_bytes if each in listed else 0
            listed.pop(each, None)
            if each in damaged:
                repository.mend(each)
        store.delete(where)
    waiting = {each for where, marked in marks.items() if where in repository.marked() for each in marked}
    fresh = sorted(listed.keys() - live - waiting)
    if fresh:
        store.put(path(MARKS, secrets.token_hex(16)), json.dumps(fresh).encode())
    result.marked = len(fresh)
    store.settle()
    return result


def _live(repository: Repository) -> set[str]:
    """Everything that a backup refers to."""
    live: set[str] = set()
    for manifest in repository.manifests():
        try:
            live |= repository.paths(manifest)
        except Malformed as error:
            raise LunetteError("damaged", f"nothing is collected while it is not known what {manifest.name} refers to: {error}"
                               ) from None
    return live
