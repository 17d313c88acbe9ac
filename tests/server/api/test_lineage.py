"""Names that could mean two things, as people and programs meet them: what is refused, what is done and said, what `ls` shows."""

from __future__ import annotations

import json

import pytest

from target.errors import LunetteError
from target.models.objects import Revert
from target.server.api.differences import Differences
from target.server.api.renames import Renames
from target.volumes.catalog import Catalog
from target.volumes.lineage import Lineage
from tests.server.api.test_api import request
from tests.server.conftest import Control


async def two_volumes_called_r(control: Control) -> None:
    """`r@old` is of an earlier `r`, half as large."""
    await control.ok("create", "r", "--size", "8M")
    await control.ok("snapshot", "r@old")
    await control.ok("delete", "r")
    status, out, err = await control.cli("create", "r", "--size", "16M")
    assert (status, err) == (0, "lunette: note: r@old: of an earlier r that was deleted, not of this one\n")
    assert out.startswith("r  volume  16M")


@pytest.mark.parametrize(("args", "message"), [
    (["revert", "r@old"], "r@old is of an earlier r that was deleted, not of the r there is now: nothing can be reverted to it, "
                          "but clone r@old NEW makes a volume of it"),
    (["revert", "r@old", "--force"], "nothing can be reverted to it"),
    (["snapshot", "r@old"], "there is r@old already: r@old is of an earlier r that was deleted"),
    (["snapshot", "s@x", "r@old"], "there is r@old already: r@old is of an earlier r that was deleted"),
    (["rename", "r@old", "r@older"], "r@older would say that it is"),
    (["rename", "r@old", "s@old"], "r@old is of a volume that was deleted, not of the s there is now"),
    (["rename", "s", "r"], "there is 'r' already"),
    (["revert", "r@none"], "there is no 'r@none'"),
])
async def test_what_a_name_alone_would_get_wrong_is_refused(control: Control, args: list[str], message: str) -> None:
    await control.ok("create", "s", "--size", "16M")
    await two_volumes_called_r(control)
    before = await control.ls()
    status, out, err = await control.cli(*args)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert message in err
    assert await control.ls() == before


@pytest.mark.parametrize(("args", "message"), [
    (["clone", "r@old", "c"], "r@old is of an earlier r that was deleted, not of the r there is now"),
    (["connect", "r@old"], "r@old is of an earlier r that was deleted, not of the r there is now"),
    (["diff", "r@old", "r"], "r@old is of an earlier r that was deleted, not of the r there is now"),
])
async def test_what_is_done_with_such_a_snapshot_says_so_in_one_line(control: Control, args: list[str], message: str) -> None:
    await two_volumes_called_r(control)
    status, out, err = await control.cli(*args)
    assert (status, err) == (0, f"lunette: note: {message}\n")
    assert out
    if args[0] != "diff":
        assert await control.cli("batch", stdin="delete r@old --force\nsnapshot r@new\n") == (0, "", "")


async def test_a_batch_says_it_too_with_the_line(control: Control) -> None:
    await control.ok("create", "r", "--size", "8M")
    status, _, err = await control.cli("batch", stdin="snapshot r@old\ndelete r\ncreate r --size 16M\n\nclone r@old c\n")
    assert (status, err) == (0, "lunette: note: line 3: r@old: of an earlier r that was deleted, not of this one\n"
                                "lunette: note: line 5: r@old is of an earlier r that was deleted, not of the r there is now\n")
    status, _, err = await control.cli("batch", stdin="snapshot r@new\nrevert r@new\nrevert r@old\n")
    assert (status, err.count("\n")) == (1, 1)
    assert "line 3: r@old is of an earlier r" in err


async def test_listings_tell_whose_a_snapshot_is(control: Control) -> None:
    await two_volumes_called_r(control)
    await control.ok("snapshot", "r@new")
    await control.ok("clone", "r@new", "c")
    await control.ok("rename", "r", "t")
    rows = await control.ls()
    assert set(rows) == {"r@old", "t", "t@new", "c"}           # what is not its own stays
    assert {name: (row["origin"], row["origin_id"], row["origin_deleted"], row["orphan"]) for name, row in rows.items()} == {
        "t": (None, None, False, False), "t@new": ("t", rows["t"]["id"], False, False),
        "c": ("t@new", rows["t@new"]["id"], False, False), "r@old": ("r", 1, True, True)}
    await control.ok("delete", "t@new")
    table = {line.split()[0]: line for line in (await control.ok("ls")).splitlines()}
    assert "r (deleted)" in table["r@old"]
    assert "r@new (deleted)" in table["c"]
    await control.ok("rename", "r@old", "kept@old")
    status, _, err = await control.cli("rename", "t", "kept")
    assert (status, err) == (0, "lunette: note: kept@old: of an earlier kept that was deleted, not of this one\n")


async def test_a_revert_finds_its_volume_by_id(control: Control) -> None:
    """A snapshot that an earlier version let people name after another volume is still of its own."""
    for name in ("a", "b"):
        await control.ok("create", name, "--size", "8M")
    await control.ok("snapshot", "a@s")
    await control.daemon.pool.call("rename", object_id=3, name="b@s")
    status, _, err = await control.cli("connect", "b@s")
    assert (status, err) == (0, "lunette: note: b@s is of a, not of the b there is now\n")
    assert (await control.ok("revert", "b@s", "--safety", "before")).startswith("a  volume")
    assert set(await control.ls()) == {"a", "b", "b@s", "a@before"}
    assert [(args["volume_id"], args["snapshot_id"]) for op, args in control.pool.started if op == "revert"] == [(1, 3)]
    assert control.daemon.commands.table["revert"].touches(Revert(name="b@s")).everything


async def test_another_size_wants_force(control: Control) -> None:
    await control.ok("create", "v", "--size", "8M")
    await control.ok("snapshot", "v@s")
    await control.ok("resize", "v", "16M")
    status, body = await request(control, "POST", "/v1/commands/revert", json.dumps({"name": "v@s"}).encode())
    assert (status, body["error"]["code"]) == (409, "needs_force")
    assert body["error"]["message"] == ("v would change its size, 16M become 8M; --force reverts it, what was written to it "
                                        "since v@s was taken is lost")
    await control.ok("revert", "v@s", "--force")
    assert (await control.ls())["v"]["size_bytes"] == 8 << 20
    status, body = await request(control, "POST", "/v1/commands/resize", b'{"name": "v", "size_bytes": 4194304}')
    assert (status, body["error"]["code"]) == (409, "needs_force")


async def test_what_is_being_compared_is_not_deleted_under_it(control: Control) -> None:
    """Held while the list is made; deleted by force all the same, the list says that it is not whole, and so does its reader."""
    await control.ok("create", "v", "--size", "64M")
    await control.ok("snapshot", "v@s")
    pool = control.daemon.pool
    for block in range(0, 9000, 2):
        control.pool._data[1][block * 4096:] = b"x".rjust(4096, b"\1")
    assert len(await pool.call("diff", a_id=1, b_id=2, offset_bytes=0, limit=4096)) == 4096
    daemon = control.daemon
    listing = Differences(pool, daemon.catalog, daemon.holds, daemon.replicas.guid).rows("v", "v@s", header=False)
    assert len(await anext(listing)) == 4096
    with pytest.raises(LunetteError, match="v@s is being read by diff v v@s; --force deletes it and cuts that off") as refused:
        await control.daemon.commands.run("delete", {"names": ["v@s"]})
    assert refused.value.code == "busy"
    await control.daemon.commands.run("delete", {"names": ["v@s"], "force": True})
    with pytest.raises(LunetteError, match="diff v v@s: v@s was deleted meanwhile, the list is not whole") as broken:
        await anext(listing)
    assert broken.value.code == "gone"
    await control.daemon.commands.run("snapshot", {"names": ["v@s"]})
    await control.daemon.commands.run("delete", {"names": ["v@s"]})       # nothing holds it any more


async def test_a_list_that_breaks_off_is_json_that_says_so(control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    await control.ok("create", "v", "--size", "64M")
    await control.ok("snapshot", "v@s")
    diffs = iter([[(number * 8192, 4096) for number in range(4096)]])

    def diff(**_: object) -> list[tuple[int, int]]:
        ranges = next(diffs, None)
        if ranges is None:
            control.pool._op_delete(2)
            control.pool._get(2)
        assert ranges is not None
        return ranges

    monkeypatch.setattr(control.pool, "_op_diff", diff)
    status, out, err = await control.cli("diff", "v", "v@s")
    assert (status, err) == (1, "lunette: diff v v@s: v@s was deleted meanwhile, the list is not whole\n")
    header, *rows, last = json.loads(out)
    assert (header["a"]["name"], header["b"]["name"], len(rows)) == ("v", "v@s", 4096)
    assert last == {"error": {"code": "gone", "message": "diff v v@s: v@s was deleted meanwhile, the list is not whole"}}


async def test_a_volume_is_renamed_with_all_its_snapshots_or_none(control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    await control.ok("create", "v", "--size", "8M")
    for label in "abc":
        await control.ok("snapshot", f"v@{label}")
    whole = control.pool._op_rename

    def rename(object_id: int, name: str) -> None:
        whole(object_id, "w@a" if name == "w@b" else name)      # which is taken by then

    monkeypatch.setattr(control.pool, "_op_rename", rename)
    status, _, err = await control.cli("rename", "v", "w")
    assert (status, err) == (1, "lunette: rename v: the name is taken\n")
    assert set(await control.ls()) == {"v", "v@a", "v@b", "v@c"}
    assert control.daemon.catalog.renaming() == Catalog(control.daemon.pool).renaming() == {}
    monkeypatch.undo()
    await control.ok("rename", "v", "w")
    assert set(await control.ls()) == {"w", "w@a", "w@b", "w@c"}
    assert not [key for key in control.pool.kv() if key.startswith("renaming/")]


@pytest.mark.parametrize("done", range(5))
async def test_a_rename_that_was_cut_short_is_carried_on(control: Control, done: int) -> None:
    """A crash behind each of its steps; with an earlier v's snapshots beside it."""
    await control.ok("create", "v", "--size", "8M")
    await control.ok("snapshot", "v@old")
    await control.ok("delete", "v")
    assert (await control.cli("create", "v", "--size", "8M"))[0] == 0
    for label in "abc":
        await control.ok("snapshot", f"v@{label}")
    daemon = control.daemon
    volume = daemon.catalog.find("v")
    await daemon.catalog.save_renaming(volume.id, ("v", "w"))
    for name in ("v@a", "v", "v@c", "v@b")[:done]:
        await daemon.pool.call("rename", object_id=daemon.catalog.find(name).id, name="w" + name[1:])
    again = Catalog(daemon.pool)
    lineage = Lineage(daemon.pool)
    await Renames(daemon.pool, again, lineage).finish()
    assert set(await control.ls()) == {"w", "w@a", "w@b", "w@c", "v@old"}
    assert Catalog(daemon.pool).renaming() == {}
    assert [each.name for each in lineage.snapshots_named("w", volume.id)] == ["w@a", "w@b", "w@c"]
