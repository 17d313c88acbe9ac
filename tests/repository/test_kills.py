"""Either side of a backup or restore dies at each of its steps: what is there is whole, and what is done next works."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable

import pytest

from target.errors import LunetteError
from target.repository.collection import check, collect
from target.repository.format import PACKS, PAGES, TREES
from target.repository.repository import Repository
from target.repository.restore import Progress, restore
from tests.repository.conftest import Gate, Lab, store_of

SMALL_PACK = 200_000


class Killed(BaseException):
    """The command's process ends here."""


def after(calls: int) -> Callable[[str, str], None]:
    """What ends the process after so many calls of the store."""
    numbers = itertools.count()

    def die(op: str, path: str) -> None:
        if next(numbers) >= calls:
            raise Killed(f"{op} {path}")

    return die


async def prepared(lab: Lab, source: random.Random) -> Repository:
    """A backup of v@a, a change, and v@b."""
    repository = lab.repository()
    await lab.create("v")
    for label in "ab":
        await lab.scribble("v", source, 12)
        await lab.snapshot(f"v@{label}")
        if label == "a":
            await lab.back_up(repository, "v@a", pack_bytes=SMALL_PACK)
    return repository


async def whole(lab: Lab, repository: Repository) -> None:
    """All that is there is whole; v@b is, or becomes, a backup; nothing is left over."""
    assert not check(repository, data=True).damage
    await lab.back_up(repository, "v@b", pack_bytes=SMALL_PACK)
    assert [each.name for each in repository.manifests()] == ["v@a", "v@b"]
    for _ in range(2):
        collect(repository, grace_s=0)
    await lab.check_all(repository)
    assert not lab.daemon.pool.hidden()
    assert not lab.daemon.stored_holds.tags(lab.id("v@b"))


async def test_a_backup_that_is_killed_at_any_call_of_its_store_leaves_no_half(lab: Lab, source: random.Random) -> None:
    repository = await prepared(lab, source)
    for number in range(100):
        store_of(repository).before = after(number)
        try:
            await lab.back_up(repository, "v@b", pack_bytes=SMALL_PACK)
        except Killed:
            finished = False
        else:
            finished = True
        store_of(repository).before = lambda op, path: None
        there = [each.name for each in repository.manifests()]
        assert there == (["v@a", "v@b"] if finished or "v@b" in there else ["v@a"])
        if number % 4 == 0:
            assert not check(repository, data=True).damage
        if finished:
            break
        for manifest in repository.manifests():
            if manifest.name == "v@b":
                repository.forget(manifest)
    assert number > 12
    for each in list(repository.store.list("writers")):     # a process that is killed says no goodbye: its lease runs out
        repository.store.delete(each)
    await whole(lab, repository)


@pytest.mark.parametrize("step", [("get", TREES), ("put", PACKS), ("put", PAGES), ("list", PACKS), ("put", TREES),
                                  ("put", "snapshots/")])
async def test_a_backup_whose_daemon_is_killed_is_whole_or_not_there(
        lab: Lab, source: random.Random, step: tuple[str, str]) -> None:
    repository = await prepared(lab, source)
    gate = Gate(*step)
    store_of(repository).before = gate
    backup = asyncio.create_task(lab.back_up(repository, "v@b", pack_bytes=SMALL_PACK))
    assert await asyncio.to_thread(gate.reached.wait, 30)
    killing = asyncio.create_task(lab.kill())
    await asyncio.sleep(0)
    gate.open()
    (outcome,) = await asyncio.gather(backup, return_exceptions=True)
    await killing
    assert outcome is None or not isinstance(outcome, BaseException) or isinstance(outcome, LunetteError), outcome
    there = [each.name for each in repository.manifests()]
    assert there == (["v@a"] if isinstance(outcome, BaseException) else ["v@a", "v@b"])
    await lab.start()
    store_of(repository).before = lambda op, path: None
    await whole(lab, repository)


@pytest.mark.parametrize("kind", [TREES, PAGES, PACKS])
async def test_a_restore_whose_command_or_daemon_is_killed_leaves_nothing(
        lab: Lab, source: random.Random, kind: str) -> None:
    repository = await prepared(lab, source)
    manifest = repository.find("v@a")

    def die(op: str, path: str) -> None:
        if path.startswith(kind):
            raise Killed(path)

    store_of(repository).before = die
    with pytest.raises(Killed):
        await restore(repository, manifest, lab.api, "w", Progress())
    assert lab.daemon.pool.lookup("w") is None
    assert not lab.daemon.pool.hidden()
    gate = Gate("get", kind)
    store_of(repository).before = gate
    restoring = asyncio.create_task(restore(repository, manifest, lab.api, "w", Progress()))
    assert await asyncio.to_thread(gate.reached.wait, 30)
    killing = asyncio.create_task(lab.kill())
    await asyncio.sleep(0)
    gate.open()
    with pytest.raises(LunetteError):
        await restoring
    await killing
    await lab.start()
    assert lab.daemon.pool.lookup("w") is None
    assert not lab.daemon.pool.hidden()
    assert not lab.daemon.receiving.status("w")
    store_of(repository).before = lambda op, path: None
    assert await lab.restored(repository, manifest, "w") == lab.contents["v@a"]
