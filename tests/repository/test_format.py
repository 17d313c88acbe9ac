"""Pages, trees and manifests: what is packed comes back, what is damaged is refused, and the document says the same."""

from __future__ import annotations

import random
import re
import struct
from itertools import pairwise
from pathlib import Path

import pytest

from core.stream import runs as placed
from target.repository import format as layout
from target.repository.format import Frame, Malformed, Manifest, Pack, Page, Tree, overlaid, pack_page, unpack_page, unzip

PAGE = (Path(__file__).parents[2] / "docs" / "repositories.md").read_text()


def frames() -> list[Frame]:
    packs = [Pack(f"{number:064x}", 1 << 26) for number in range(3)]
    return [Frame(packs[number % 3], number * 1000, 999, 512, bytes([number] * 16)) for number in range(7)]


def random_runs(source: random.Random, end: int = 4000) -> bytes:
    """Runs of frames 0 to 6."""
    found, at = b"", 0
    while at < end:
        at += source.randrange(30)
        blocks = source.randrange(1, 40)
        found += layout.RUN.pack(at, blocks, source.randrange(7), source.randrange(512 - blocks))
        at += blocks
    return found


def test_what_turns_one_page_into_another_is_what_differs_and_nothing_else() -> None:
    source, end = random.Random(5), 3900
    for round_ in range(200):
        old, new = (Page(frames(), random_runs(source)) for _ in range(2))
        if round_ % 2:                          # mostly the same
            packed = b"".join(struct.pack("<II", *each) for each in random_cuts(source)[::9])
            new = overlaid(old, packed, [])
        before, after, changed = by_block(old), by_block(new), placed.changes(old.runs, new.runs, end)
        assert by_block(Page(new.frames, placed.with_data(changed))) == {
            block: value for block, value in after.items() if block < end and before.get(block) != value}
        holes = {block + at for block, blocks, frame, _ in layout.RUN.iter_unpack(changed) for at in range(blocks)
                 if frame == 0xFFFFFFFF}
        assert holes == {block for block in before if block < end and block not in after}
        starts = [block for block, *_ in layout.RUN.iter_unpack(changed)]
        assert starts == sorted(starts)
    assert placed.changes(old.runs, old.runs, end) == b""


def random_cuts(source: random.Random) -> list[tuple[int, int]]:
    cuts, at = [], 0
    while at < 4200 and source.random() < 0.97:
        start = at + source.randrange(1, 60)
        at = start + source.randrange(1, 60)
        cuts.append((start, at))
    return cuts


def by_block(page: Page) -> dict[int, tuple[bytes, int]]:
    return {block + at: (page.frames[frame].digest, first + at)
            for block, blocks, frame, first in layout.RUN.iter_unpack(page.runs) for at in range(blocks)}


def test_what_is_cut_out_is_gone_and_nothing_else_and_what_is_new_is_there() -> None:
    source = random.Random(2)
    for _ in range(200):
        page, cuts = Page(frames(), random_runs(source)), random_cuts(source)
        packed = b"".join(struct.pack("<II", *each) for each in cuts)
        gone = {block for start, stop in cuts for block in range(start, stop)}
        kept = {block: value for block, value in by_block(page).items() if block not in gone}
        assert by_block(overlaid(page, packed, [])) == kept
        new = Frame(Pack("ff" * 32, 1 << 26), 0, 999, 512, b"n" * 16)
        fresh = b"".join(layout.RUN.pack(start, stop - start, 0, 5) for start, stop in cuts)
        whole = overlaid(page, packed, [(fresh, new)])
        assert by_block(whole) == {**kept, **{block: (b"n" * 16, 5 + block - start) for start, stop in cuts
                                             for block in range(start, stop)}}
        found = list(layout.RUN.iter_unpack(whole.runs))
        assert all(a[0] + a[1] <= b[0] for a, b in pairwise(found))
        assert all(each[1] > 0 for each in found)
        marked = {page.frames[2].pack.id}
        covered = {block for start, stop in page.covered(marked) for block in range(start, stop)}
        assert covered == {block for block, (digest, _) in by_block(page).items()
                           if next(each for each in page.frames if each.digest == digest).pack.id in marked}


def test_runs_by_their_frames_put_every_block_in_its_place() -> None:
    source = random.Random(4)
    runs = random_runs(source, 1000)
    contents = [source.randbytes(512 * 4096) for _ in range(7)]
    expected = bytearray(placed.end_block(runs) * 4096)
    for block, blocks, frame, first in layout.RUN.iter_unpack(runs):
        expected[block * 4096:(block + blocks) * 4096] = contents[frame][first * 4096:(first + blocks) * 4096]
    data = bytearray(len(expected))
    ordered, starts = placed.by_frame(runs, 7)
    bounds = struct.unpack("<8I", starts)
    assert bounds[7] * placed.RUN_BYTES == len(runs) == len(ordered)
    for number in range(7):
        placed.place(ordered[bounds[number] * placed.RUN_BYTES:bounds[number + 1] * placed.RUN_BYTES], contents[number], data)
    assert data == expected
    with pytest.raises(ValueError, match="beyond"):
        placed.place(layout.RUN.pack(0, 2, 0, 511), contents[0], data)
    with pytest.raises(ValueError, match="beyond"):
        placed.place(layout.RUN.pack(len(data) // 4096, 1, 0, 0), contents[0], data)
    with pytest.raises(IndexError):
        placed.renumbered(runs, b"\1\0\0\0")


def test_a_page_comes_back_and_any_damage_is_refused_or_harmless() -> None:
    source = random.Random(3)
    page = Page(frames(), random_runs(source))
    sizes = {each.pack.id: 1 << 26 for each in page.frames}
    raw = pack_page(page)
    assert by_block(unpack_page(raw, sizes)) == by_block(page)
    assert pack_page(unpack_page(raw, sizes)) == raw
    few = Page(page.frames, b"".join(layout.RUN.pack(*each) for each in layout.RUN.iter_unpack(page.runs) if each[2] in (2, 5)))
    again = unpack_page(pack_page(few), sizes)
    assert [each.digest for each in again.frames] == [page.frames[2].digest, page.frames[5].digest]
    assert by_block(again) == by_block(few)
    with pytest.raises(Malformed):
        unpack_page(raw, {})
    for _ in range(300):
        broken = bytearray(raw)
        for _ in range(source.randrange(1, 4)):
            broken[source.randrange(len(broken))] = source.randrange(256)
        cut = broken[:source.randrange(len(broken) + 1)] if source.random() < 0.3 else broken
        try:
            found = unpack_page(bytes(cut), sizes)
        except Malformed:
            continue
        for block, blocks, number, first in layout.RUN.iter_unpack(found.runs):
            frame = found.frames[number]
            assert block + blocks <= layout.GROUP_BLOCKS
            assert first + blocks <= frame.blocks <= layout.FRAME_BLOCKS
            assert frame.offset_bytes + frame.stored_bytes <= 1 << 26


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
    assert f"up to {layout.FRAME_BLOCKS} blocks" in PAGE
    assert f"{layout.GROUP_BYTES >> 20} MiB of the volume, {layout.GROUP_BLOCKS} blocks" in PAGE
