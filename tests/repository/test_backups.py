"""Backups and restores: each whole in itself, in any order, whatever happens to the store, the pool and those beside."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from target.errors import LunetteError
from target.repository.collection import check, collect, damaged_backups
from target.repository.format import PACKS, PAGES, TREES
from target.repository.repacking import repack
from target.repository.repository import Repository, writing
from target.repository.restore import Progress, restore
from target.repository.store import Store
from target.volumes.replicas import Replicas
from tests.repository.conftest import MIB, Gate, Lab, store_of

SMALL_PACK = 200_000


@pytest.mark.parametrize("encrypted", [False, True])
async def test_thirty_backups_deleted_in_any_order_leave_the_others_whole(
        lab: Lab, source: random.Random, encrypted: bool) -> None:
    repository = lab.repository(encrypted=encrypted)
    await lab.create("v")
    for number in range(30):
        await lab.scribble("v", source)
        if number in (7, 15):
            size = 10 * MIB if number == 7 else 7 * MIB
            await lab.daemon.commands.run("resize", {"name": "v", "size_bytes": size, "force": True})
        await lab.snapshot(f"v@{number}")
        done = await lab.back_up(repository, f"v@{number}", pack_bytes=SMALL_PACK)
        assert done.base == (f"v@{number - 1}" if number else None)
        if number > 2:
            await lab.delete(f"v@{number - 2}")
    assert not check(repository, data=True).damage
    manifests = repository.manifests()
    assert len(manifests) == 30
    source.shuffle(manifests)
    for number, manifest in enumerate(manifests[:24]):
        repository.forget(manifest)
        collect(repository, grace_s=0)
        if number % 8 == 7:
            assert not check(repository, data=True).damage
            kept = manifests[number + 1]
            assert await lab.restored(repository, kept) == lab.contents[kept.name]
    await lab.check_all(repository)
    for manifest in manifests[24:]:
        repository.forget(manifest)
    collect(repository, grace_s=0)
    collect(repository, grace_s=0)
    assert sum(len(repository.store.list(kind)) for kind in (PACKS, PAGES, TREES)) == 0


async def test_what_did_not_change_costs_one_small_object(lab: Lab, source: random.Random) -> None:
    repository = lab.repository()
    await lab.create("v", 300 * MIB)
    await lab.scribble("v", source)
    await lab.snapshot("v@a")
    await lab.back_up(repository, "v@a")
    await lab.snapshot("v@b")
    store_of(repository).puts.clear()
    done = await lab.back_up(repository, "v@b")
    assert (done.base, done.progress.read_bytes, done.progress.new_bytes) == ("v@a", 0, 0)
    assert [each for each in store_of(repository).puts if not each.startswith(("writers/", "trees/"))] == [
        f"snapshots/{done.manifest.guid}"]
    assert len(repository.store.list(TREES)) == 1
    again = await lab.back_up(repository, "v@b")
    assert not again.stored


async def test_scattered_changes_cost_what_changed(lab: Lab, source: random.Random) -> None:
    repository = lab.repository()
    await lab.create("v", 32 * MIB)
    await lab.call("write", object_id=lab.id("v"), offset_bytes=0, data=source.randbytes(32 * MIB))
    await lab.snapshot("v@a")
    await lab.back_up(repository, "v@a")
    for at in range(0, 32 * MIB, MIB):
        await lab.call("write", object_id=lab.id("v"), offset_bytes=at, data=source.randbytes(4096))
    await lab.snapshot("v@b")
    done = await lab.back_up(repository, "v@b")
    assert done.progress.read_bytes == 32 * 4096
    assert done.progress.new_bytes < 33 * 4096
    await lab.check_all(repository)


async def test_the_end_of_a_backup_and_of_a_restore_is_told(lab: Lab, source: random.Random) -> None:
    repository, size = lab.repository(), 6 * MIB
    told: list[tuple[int, int | None, int]] = []
    await lab.create("v", size)
    await lab.call("write", object_id=lab.id("v"), offset_bytes=MIB, data=source.randbytes(MIB))
    await lab.snapshot("v@a")
    done = await lab.back_up(repository, "v@a", told=lambda *row: told.append(row))
    assert told[-1] == (size, size, done.progress.new_bytes)
    assert done.progress.new_bytes >= MIB
    await restore(repository, done.manifest, lab.api, "w", Progress(told=lambda *row: told.append(row)))
    assert told[-1] == (size, size, MIB)


# -- a store that fails ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [PACKS, PAGES, TREES])
async def test_a_put_that_is_acknowledged_and_lost_is_done_again(lab: Lab, source: random.Random, kind: str) -> None:
    repository = lab.repository()
    await lab.create("v")
    await lab.scribble("v", source)
    await lab.snapshot("v@a")
    lost: list[str] = []

    def once(path: str) -> bool:
        if path.startswith(kind) and not lost:
            lost.append(path)
            return True
        return False

    store_of(repository).lose = once
    await lab.back_up(repository, "v@a")
    assert lost
    assert not check(repository, data=True).damage
    await lab.check_all(repository)


async def test_what_is_lost_after_it_was_looked_at_is_stored_again_before_the_manifest(lab: Lab, source: random.Random) -> None:
    repository = lab.repository()
    store = store_of(repository)
    await lab.create("v")
    await lab.scribble("v", source)
    await lab.snapshot("v@a")
    gone: list[str] = []

    def vanish(op: str, path: str) -> None:
        if op == "list" and path == PACKS and not gone and (packs := Store.list(store, PACKS)):
            gone.extend(packs)
            for each in packs:
                store.delete(each)

    store.before = vanish
    await lab.back_up(repository, "v@a")
    assert gone
    assert not check(repository, data=True).damage
    await lab.check_all(repository)


async def test_a_store_that_loses_everything_gets_no_manifest(lab: Lab, source: random.Random) -> None:
    repository = lab.repository()
    store_of(repository).lose = lambda path: path.startswith(PACKS)
    await lab.create("v")
    await lab.scribble("v", source)
    await lab.snapshot("v@a")
    with pytest.raises(LunetteError, match="was stored and is not there"):
        await lab.back_up(repository, "v@a")
    assert repository.manifests() == []
    assert repository.store.list("writers") == {}
    assert lab.daemon.stored_holds.tags(lab.id("v@a")) == []


async def _two(lab: Lab, source: random.Random, repository: Repository) -> None:
    """Backups of v@a and v@b, the second of a change."""
    await lab.create("v")
    for label in "ab":
        await lab.scribble("v", source, 12)
        await lab.snapshot(f"v@{label}")
        await lab.back_up(repository, f"v@{label}", pack_bytes=SMALL_PACK)


@pytest.mark.parametrize("kind", [PACKS, PAGES, TREES])
@pytest.mark.parametrize("fault", ["rotten", "missing"])
@pytest.mark.parametrize("encrypted", [False, True])
async def test_what_is_rotten_or_missing_is_said_and_the_next_backup_mends_it(
        lab: Lab, source: random.Random, kind: str, fault: str, encrypted: bool) -> None:
    repository = lab.repository(encrypted=encrypted)
    await _two(lab, source, repository)
    needed = repository.paths(repository.find("v@a"))
    where = sorted(each for each in needed if each.startswith(kind))[0]
    file = store_of(repository).file(where)
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    file.unlink()
    if fault == "rotten":
        file.write_bytes(raw)
    with pytest.raises(LunetteError, match="v@a in repository r is damaged"):
        await restore(repository, repository.find("v@a"), lab.api, "w", Progress())
    assert lab.daemon.pool.lookup("w") is None
    assert lab.daemon.pool.hidden() == []
    found = check(repository, data=True)
    assert where in found.damage
    assert "v@a" in found.backups
    assert repository.find("v@a").guid in damaged_backups(repository, repository.manifests())
    await lab.scribble("v", source)
    await lab.snapshot("v@c")
    done = await lab.back_up(repository, "v@c", pack_bytes=SMALL_PACK)
    assert "v@a" in done.mended
    assert not damaged_backups(repository, repository.manifests())
    assert not check(repository, data=True).damage
    await lab.check_all(repository)


async def test_what_no_snapshot_holds_any_more_stays_damaged_and_the_new_backup_is_whole(lab: Lab, source: random.Random) -> None:
    repository = lab.repository()
    await _two(lab, source, repository)
    await lab.delete("v@a")
    for where in repository.store.list(PACKS):
        store_of(repository).file(where).unlink()
    assert set(check(repository, data=False).backups) == {"v@a", "v@b"}
    await lab.delete("v@b")
    await lab.snapshot("v@c")
    done = await lab.back_up(repository, "v@c")
    assert (done.mended, done.base) == ([], None)
    assert set(check(repository, data=True).backups) == {"v@a", "v@b"}
    assert await lab.restored(repository, repository.find("v@c")) == lab.contents["v@c"]


async def test_a_check_takes_back_what_is_whole_again(lab: Lab, source: random.Random) -> None:
    repository = lab.repository()
    await _two(lab, source, repository)
    where = sorted(repository.store.list(PACKS))[0]
    file = store_of(repository).file(where)
    raw = file.read_bytes()
    file.write_bytes(bytes([raw[0] ^ 1]) + raw[1:])
    assert not check(repository, data=False).damage      # its data were not looked at
    assert check(repository, data=True).damage
    file.write_bytes(raw)
    assert check(repository, data=False).damage
    assert not check(repository, data=True).damage
    assert repository.damaged() == {}


# -- several at once -------------------------------------------------------------------------------------------------------


async def test_two_writers_of_one_snapshot_and_of_two(lab: Lab, source: random.Random) -> None:
    repository = lab.repository()
    await lab.create("v")
    await lab.scribble("v", source, 12)
    await lab.snapshot("v@a")
    await lab.snapshot("v@b")
    results = await asyncio.gather(*(lab.back_up(repository, name) for name in ("v@a", "v@a", "v@b")), return_exceptions=True)
    refused = [each for each in results if isinstance(each, LunetteError)]
    assert [each.code for each in refused] == ["exists"]
    assert [each.name for each in repository.manifests()] == ["v@a", "v@b"]
    await lab.check_all(repository)


async def test_a_collection_beside_a_backup_takes_nothing_from_it(lab: Lab, source: random.Random) -> None:
    repository = lab.repository()
    await _two(lab, source, repository)
    beside = Repository(Store(repository.store.url), repository.sealer, repository.id, "r")
    await lab.snapshot("v@c")
    gate = Gate("put", "snapshots/")
    store_of(repository).before = gate
    backup = asyncio.create_task(lab.back_up(repository, "v@c"))
    assert await asyncio.to_thread(gate.reached.wait, 30)
    for manifest in beside.manifests():         # what the running backup refers to is nobody else's any more
        beside.forget(manifest)
    for _ in range(3):
        assert collect(beside, grace_s=0).swept == 0
    gate.open()
    await backup
    collect(beside, grace_s=0)
    assert not check(beside, data=True).damage
    await lab.check_all(beside)


async def test_what_is_marked_is_not_shared_but_stored_anew(lab: Lab, source: random.Random) -> None:
    """A backup that begins after the mark stores the same packs and pages; the sweep of the mark leaves it those."""
    repository = lab.repository()
    await _two(lab, source, repository)
    for manifest in repository.manifests():
        repository.forget(manifest)
    assert collect(repository, grace_s=0).marked > 0
    beside = Repository(Store(repository.store.url), repository.sealer, repository.id, "r")
    gate = Gate("put", "snapshots/")
    store_of(repository).before = gate
    backup = asyncio.create_task(lab.back_up(repository, "v@a", pack_bytes=SMALL_PACK))
    assert await asyncio.to_thread(gate.reached.wait, 30)
    assert collect(beside, grace_s=0).swept > 0     # the writer knows of the mark
    gate.open()
    await backup
    assert not check(beside, data=True).damage
    await lab.check_all(beside)


def test_a_mark_waits_for_its_time_and_for_writers_that_do_not_know_of_it(tmp_path) -> None:
    repository = Repository.open(Store(str(tmp_path / "r"), make=True), "r", None, make=True)
    repository.store.put("packs/00/00", b"x")
    with writing(repository):
        assert collect(repository, grace_s=0).marked == 1
        assert (collect(repository, grace_s=0).swept, collect(repository, grace_s=0).waiting) == (0, 1)
    assert collect(repository, grace_s=3600).waiting == 1
    with writing(repository):
        assert collect(repository, grace_s=0).swept == 1
    assert repository.store.list("marks") == {}


async def test_nothing_is_collected_when_it_is_not_known_what_is_needed(lab: Lab, source: random.Random) -> None:
    repository = lab.repository()
    await _two(lab, source, repository)
    store_of(repository).file(f"trees/{repository.find('v@a').tree}").unlink()
    with pytest.raises(LunetteError, match="nothing is collected"):
        collect(repository, grace_s=0)


# -- restores --------------------------------------------------------------------------------------------------------------


async def test_a_full_pool_leaves_nothing_of_a_restore(lab: Lab, source: random.Random) -> None:
    repository = lab.repository()
    await lab.create("v", 64 * MIB)
    await lab.call("write", object_id=lab.id("v"), offset_bytes=0, data=source.randbytes(64 * MIB))
    await lab.snapshot("v@a")
    await lab.back_up(repository, "v@a")
    await lab.create("filler", 200 * MIB)
    room = lab.daemon.pool.stats()["available_bytes"] - 16 * MIB
    await lab.call("write", object_id=lab.id("filler"), offset_bytes=0, data=b"\1" * (room // 4096 * 4096))
    with pytest.raises(LunetteError) as refused:
        await restore(repository, repository.find("v@a"), lab.api, "w", Progress())
    assert refused.value.code == "no_space"
    for _ in range(100):
        if not lab.daemon.pool.hidden():
            break
        await asyncio.sleep(0.02)
    assert lab.daemon.pool.hidden() == []
    assert lab.daemon.pool.lookup("w") is None
    await lab.delete("filler")
    await lab.call("flush")
    for _ in range(200):
        if lab.daemon.pool.stats()["available_bytes"] > 100 * MIB:
            break
        await asyncio.sleep(0.02)
    assert await lab.restored(repository, repository.find("v@a")) == lab.contents["v@a"]


async def test_a_restored_volume_goes_on_with_the_backups_of_its_snapshot(lab: Lab, source: random.Random) -> None:
    repository = lab.repository()
    await _two(lab, source, repository)
    made = await restore(repository, repository.find("v@b"), lab.api, "w", Progress())
    assert made["received"] == ["w@b"]
    assert not (await lab.back_up(repository, "w@b")).stored
    await lab.call("write", object_id=lab.id("w"), offset_bytes=MIB, data=source.randbytes(4096))
    await lab.snapshot("w@c")
    done = await lab.back_up(repository, "w@c")
    assert (done.base, done.progress.read_bytes) == ("v@b", 4096)
    await lab.check_all(repository)


async def test_a_restore_that_the_daemon_is_told_nothing_more_of_leaves_nothing(lab: Lab, source: random.Random) -> None:
    repository = lab.repository()
    await _two(lab, source, repository)
    gate = Gate("get", "pages/")
    store_of(repository).before = gate
    restoring = asyncio.create_task(restore(repository, repository.find("v@b"), lab.api, "w", Progress()))
    assert await asyncio.to_thread(gate.reached.wait, 30)
    for _ in range(3000):
        if lab.daemon.pool.hidden():
            break
        await asyncio.sleep(0.01)
    (job,) = [each for each in lab.daemon.jobs.all() if each.kind == "restore"]
    job.cancel()
    await job.over.wait()
    gate.open()
    with pytest.raises(LunetteError, match="was cancelled"):
        await restoring
    assert lab.daemon.pool.hidden() == []
    assert lab.daemon.pool.lookup("w") is None
    assert lab.daemon.transfers.ended["restore", "cancelled"] == 1


async def test_a_name_that_is_taken_is_refused_before_anything_is_read(lab: Lab, source: random.Random) -> None:
    repository = lab.repository()
    await _two(lab, source, repository)
    store_of(repository).gets.clear()
    manifest = repository.find("v@a")
    store_of(repository).gets.clear()
    with pytest.raises(LunetteError, match="there is v already"):
        await restore(repository, manifest, lab.api, "v", Progress())
    assert store_of(repository).gets == []


@pytest.mark.parametrize("size", [20 * MIB, 12 * MIB, 16 * MIB])
async def test_a_volume_that_has_a_common_snapshot_gets_what_differs_and_stays_as_it_is(
        lab: Lab, source: random.Random, size: int) -> None:
    repository = lab.repository(encrypted=True)
    await lab.create("v", 16 * MIB)
    await lab.call("write", object_id=lab.id("v"), offset_bytes=0, data=source.randbytes(16 * MIB))
    await lab.snapshot("v@a")
    await lab.back_up(repository, "v@a")
    await lab.scribble("v", source, 12)
    if size != 16 * MIB:
        await lab.call("resize", object_id=lab.id("v"), size_bytes=size)
    await lab.snapshot("v@b")
    done = await lab.back_up(repository, "v@b")
    await lab.delete("v@b")
    await lab.call("write", object_id=lab.id("v"), offset_bytes=5 * MIB, data=b"now." * 1024)
    now, used = await lab.read("v"), lab.daemon.pool.stats()["used_bytes"]
    store_of(repository).gets.clear()
    progress = Progress()
    made = await restore(repository, repository.find("v@b"), lab.api, "v", progress)
    assert made["received"] == ["v@b"]
    assert "v stays as it is; lunette revert v@b" in made["note"]
    assert await lab.read("v@b") == lab.contents["v@b"]
    assert await lab.read("v@a") == lab.contents["v@a"]
    assert await lab.read("v") == now
    assert progress.done_bytes <= done.progress.read_bytes        # and blocks that became holes
    assert lab.daemon.pool.stats()["used_bytes"] - used <= done.progress.read_bytes + MIB
    info = lab.daemon.pool.lookup("v@b")
    assert info is not None
    assert Replicas(lab.daemon.pool).guid(info) == repository.find("v@b").guid
    with pytest.raises(LunetteError, match="it has that snapshot: v@b"):
        await restore(repository, repository.find("v@b"), lab.api, "v", Progress())
    await lab.delete("v@a")                                         # nothing of it is the restored one's
    assert await lab.read("v@b") == lab.contents["v@b"]
    assert not (await lab.back_up(repository, "v@b")).stored        # it is the same snapshot


@pytest.mark.parametrize("kind", [PAGES, TREES])
async def test_a_base_that_is_damaged_in_the_repository_costs_reading_and_nothing_else(
        lab: Lab, source: random.Random, kind: str) -> None:
    repository = lab.repository()
    await _two(lab, source, repository)
    await lab.delete("v@b")
    hurt = {*repository.paths(repository.find("v@a"))} - {*repository.paths(repository.find("v@b"))}
    assert any(each.startswith(kind) for each in hurt)
    for each in hurt:
        if each.startswith(kind):
            store_of(repository).file(each).write_bytes(b"rotten")
    await restore(repository, repository.find("v@b"), lab.api, "v", Progress())
    assert await lab.read("v@b") == lab.contents["v@b"]


async def test_a_volume_that_has_nothing_in_common_with_the_repository_is_left_alone(lab: Lab, source: random.Random) -> None:
    repository = lab.repository()
    await _two(lab, source, repository)
    await lab.create("w")
    await lab.snapshot("w@x")
    with pytest.raises(LunetteError, match="there is w already, and the repository has a backup of none of its snapshots"):
        await restore(repository, repository.find("v@a"), lab.api, "w", Progress())
    assert lab.daemon.pool.lookup("w@a") is None
    assert lab.daemon.pool.hidden() == []


async def halves(lab: Lab, repository: Repository, source: random.Random, count: int) -> None:
    """Backups of which each writes two regions, of which the next writes the second again: a pack of two frames each."""
    await lab.create("v", 10 * MIB)
    for number in range(count):
        for region in (number % 5, (number + 1) % 5):
            await lab.call("write", object_id=lab.id("v"), offset_bytes=2 * region * MIB, data=source.randbytes(2 * MIB))
        await lab.snapshot(f"v@{number}")
        await lab.back_up(repository, f"v@{number}", pack_bytes=20 * MIB)


@pytest.mark.parametrize("encrypted", [False, True])
async def test_packs_that_are_mostly_dead_are_repacked_and_the_rest_restores(
        lab: Lab, source: random.Random, encrypted: bool) -> None:
    repository = lab.repository(encrypted=encrypted)
    await halves(lab, repository, source, 8)
    manifests = repository.manifests()
    for manifest in manifests[:6]:
        repository.forget(manifest)
    assert not repack(repository, share=0.0).packs
    before = repository.store.list(PACKS)
    reader = asyncio.ensure_future(lab.restored(repository, manifests[6], "meanwhile"))
    done = await asyncio.to_thread(repack, repository, share=0.6, pack_bytes=5 * MIB)
    assert await reader == lab.contents[manifests[6].name]
    assert (done.packs, done.backups) == (3, 2)     # of the backups 3, 4 and 5 half is needed
    assert 5.9 * MIB < done.moved_bytes <= done.freed_bytes < 6.1 * MIB
    assert not check(repository, data=True).damage
    for _ in range(2):
        collect(repository, grace_s=0)
    after = repository.store.list(PACKS)
    kept = sum(each.size_bytes for each in after.values())
    assert kept <= sum(each.size_bytes for each in before.values()) - done.freed_bytes
    assert not repack(repository, share=0.6).packs
    assert not check(repository, data=True).damage
    await lab.check_all(repository)
    assert not (await lab.back_up(repository, "v@7")).stored
    await lab.scribble("v", source)
    await lab.snapshot("v@9")
    assert (await lab.back_up(repository, "v@9")).base == "v@7"
    await lab.check_all(repository)


async def test_a_backup_that_is_deleted_while_packs_are_repacked_stays_deleted_and_what_is_rotten_stays(
        lab: Lab, source: random.Random, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = lab.repository()
    await halves(lab, repository, source, 4)
    *others, second, third = repository.manifests()
    for each in others:
        repository.forget(each)
    save = repository.save_tree

    def deleting(*args: Any) -> str:
        repository.forget(second)
        return save(*args)

    monkeypatch.setattr(repository, "save_tree", deleting)
    assert repack(repository, share=0.6).backups == 1
    monkeypatch.undo()
    assert [each.guid for each in repository.manifests()] == [third.guid]
    await lab.check_all(repository)
    for where in repository.store.list(PACKS):
        raw = repository.store.get(where)
        assert raw is not None
        repository.store.put(where, bytes(len(raw)))
    assert repack(repository, share=1.1).packs == 0
    assert check(repository, data=True).damage


async def test_two_volumes_of_one_name_are_told_apart_by_their_guids(lab: Lab, source: random.Random) -> None:
    repository = lab.repository()
    await _two(lab, source, repository)
    for name in ("v@a", "v@b", "v"):
        await lab.delete(name)
    first = lab.contents["v@a"]
    await lab.create("v")
    await lab.scribble("v", source)
    await lab.snapshot("v@a")
    done = await lab.back_up(repository, "v@a")
    assert done.base is None
    with pytest.raises(LunetteError, match="of several volumes, take the GUID"):
        repository.find("v@a")
    old = next(each for each in repository.manifests() if each.name == "v@a" and each.guid != done.manifest.guid)
    assert await lab.restored(repository, repository.find(old.guid)) == first
    assert await lab.restored(repository, repository.find(done.manifest.guid)) == lab.contents["v@a"]
