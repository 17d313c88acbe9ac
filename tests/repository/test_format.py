"""Pages, trees and manifests: what is packed comes back, what is damaged is refused, and the document says the same."""

from __future__ import annotations

import random
import re
import struct
from itertools import pairwise
from pathlib import Path

import pytest

from target import records
from target.repository import format as layout
from target.repository.format import Frame, Malformed, Manifest, Pack, Run, Tree, merged, pack_page, unpack_page, unzip, without

PAGE = (Path(__file__).parents[2] / "docs" / "repositories.md").read_text()


def frames() -> list[Frame]:
    packs = [Pack(f"{number:064x}", 1 << 26) for number in range(3)]
    return [Frame(packs[number % 3], number * 1000, 999, 512, bytes([number] * 16)) for number in range(7)]


def random_runs(source: random.Random) -> list[Run]:
    found, at = [], 0
    while at < 4000:
        at += source.randrange(30)
        blocks = source.randrange(1, 40)
        found.append(Run(at, blocks, source.choice(frames_of), source.randrange(512 - blocks)))
        at += blocks
    return found


frames_of = frames()


def by_block(runs: list[Run]) -> dict[int, tuple[bytes, int]]:
    return {run.block + at: (run.frame.digest, run.first + at) for run in runs for at in range(run.blocks)}


def test_what_is_cut_out_is_gone_and_nothing_else() -> None:
    source = random.Random(2)
    for _ in range(200):
        runs, cuts, at = random_runs(source), [], 0
        while at < 4200:
            start = at + source.randrange(1, 60)
            at = start + source.randrange(1, 60)
            cuts.append((start, at))
        if source.random() < 0.1:
            cuts = []
        kept = list(without(runs, cuts))
        gone = {block for start, stop in cuts for block in range(start, stop)}
        assert by_block(kept) == {block: value for block, value in by_block(runs).items() if block not in gone}
        assert all(each.blocks > 0 for each in kept)
        fresh = [Run(start, stop - start, frames_of[0], 0) for start, stop in cuts]
        whole = merged(kept, fresh)
        assert all(a.block + a.blocks <= b.block for a, b in pairwise(whole))


def test_a_page_comes_back_and_any_damage_is_refused_or_harmless() -> None:
    source = random.Random(3)
    runs = random_runs(source)
    sizes = {each.pack.id: 1 << 26 for each in frames_of}
    raw = pack_page(runs)
    assert by_block(unpack_page(raw, sizes)) == by_block(runs)
    with pytest.raises(Malformed):
        unpack_page(raw, {})
    for _ in range(300):
        broken = bytearray(raw)
        for _ in range(source.randrange(1, 4)):
            broken[source.randrange(len(broken))] = source.randrange(256)
        cut = broken[:source.randrange(len(broken) + 1)] if source.random() < 0.3 else broken
        try:
            for run in unpack_page(bytes(cut), sizes):
                assert run.block + run.blocks <= layout.GROUP_BLOCKS
                assert run.first + run.blocks <= run.frame.blocks <= layout.FRAME_BLOCKS
                assert run.frame.offset_bytes + run.frame.stored_bytes <= 1 << 26
        except Malformed:
            pass


def test_a_tree_and_a_manifest_come_back_and_nonsense_is_refused() -> None:
    tree = Tree.empty(4)
    tree.set(1, "aa" * 32, [Pack("b" * 64, 5), Pack("c" * 64, 6)])
    tree.set(3, "dd" * 32, [Pack("c" * 64, 6)])
    tree.set(1, "ee" * 32, [Pack("b" * 64, 5)])
    again = Tree.unpack(tree.pack())
    assert (again.pages, again.packs_of) == (tree.pages, tree.packs_of)
    manifest = Manifest(name="v@a", guid="ab", origin_id=1, pool="p", size_bytes=4096, block_bytes=512, checksum=False,
                        created_s=1.0, stored_s=2.0, tree="cc", new_bytes=3)
    assert Manifest.unpack(manifest.pack()) == manifest
    for raw in (b"", b"{}", b"[]", b"null", manifest.pack().replace(b'"format":1', b'"format":2'),
                manifest.pack().replace(b"4096", b"4097"), manifest.pack()[:-1]):
        with pytest.raises(Malformed):
            Manifest.unpack(raw)
        with pytest.raises(Malformed):
            Tree.unpack(raw)


def test_what_unpacks_to_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import zlib

    monkeypatch.setattr(layout, "MAX_META_BYTES", 1000)
    assert unzip(zlib.compress(bytes(1000))) == bytes(1000)
    with pytest.raises(Malformed):
        unzip(zlib.compress(bytes(1001)))
    assert unzip(zlib.compress(b"salted") + bytes(16)) == b"salted"


def rows(title: str) -> list[list[str]]:
    body = re.split(r"^#", PAGE.split(f"# {title}\n", 1)[1], flags=re.MULTILINE)[0]
    lines = [line.strip("|").split("|") for line in body.splitlines() if line.startswith("| ")]
    return [[cell.strip().strip("`") for cell in cells] for cells in lines]


def test_the_document_says_what_the_code_has() -> None:
    table = {row[0]: (row[1], int(row[2])) for row in rows("The format") if len(row) > 2 and row[1].startswith("<")}
    structs = {name: value for name, value in vars(layout).items() if isinstance(value, struct.Struct)}
    assert table == {name: (value.format, value.size) for name, value in structs.items()}
    kinds = {row[0].partition("/")[0] for row in rows("The format") if "/" in row[0]}
    assert kinds == {layout.PACKS, layout.PAGES, layout.TREES, layout.SNAPSHOTS, layout.WRITERS, layout.MARKS, layout.DAMAGE}
    channel = {row[0]: row[1] for row in rows("The channel")}
    assert (channel["WRITE"], channel["WRITTEN"]) == (records.WRITE.format, records.WRITTEN.format)
    assert {name: int(value) for name, value in channel.items() if value.isdigit()} == {
        each.name: each.value for each in records.Step}
    assert f"up to {layout.FRAME_BLOCKS} blocks" in PAGE
    assert f"{layout.GROUP_BYTES >> 20} MiB of the volume, {layout.GROUP_BLOCKS} blocks" in PAGE
