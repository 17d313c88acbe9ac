"""Repacking: what is still needed of packs that are mostly dead goes into new ones, so that collections can sweep the old.

A pack is shared by backups, and stays as long as one frame of it is needed. New packs, pages and trees are written first; then
each manifest is replaced by one that refers to them. Who reads by the old ones can do so until a later collection sweeps them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace

from target.repository.format import PACK_BYTES, PACKS, Frame, Malformed, Manifest, Pack, Page, Tree, path
from target.repository.repository import Lease, Repository, writing
from target.repository.telling import Told, untold

SHARE = 0.5             # of a pack that is needed: with less it is repacked
Key = tuple[str, int]   # a pack, and where in it a frame begins


@dataclass(slots=True)
class Repacked:
    packs: int = 0          # that are needed no more
    moved_bytes: int = 0    # of them, what went into new packs
    freed_bytes: int = 0    # what sweeping them will give back beyond that
    backups: int = 0        # that refer to new packs now


def repack(repository: Repository, *, share: float = SHARE, pack_bytes: int = PACK_BYTES,
           told: Told = untold) -> Repacked:
    """Empty packs of which less than `share` is needed. LunetteError store. What is damaged stays as it is."""
    result = Repacked()
    with writing(repository) as lease:
        trees = _trees(repository, repository.manifests(), lease)
        pages = _pages(repository, trees.values())
        sparse = _sparse(pages, trees.values(), lease, share)
        moved = _Move(repository, lease, pack_bytes).run(sparse, result, told)
        renamed = {name: _new_page(repository, lease, page, moved) for name, page in pages.items()
                   if page is not None and any(_key(frame) in moved for frame in page.needed())}
        for guid, tree in trees.items():
            _refer(repository, lease, guid, tree, renamed, result)
    return result


def _trees(repository: Repository, manifests: Iterable[Manifest], lease: Lease) -> dict[str, Tree]:
    """Of backups that are whole as far as is known, by GUID."""
    found = {}
    for manifest in manifests:
        try:
            tree = repository.tree(manifest.tree)
        except Malformed:
            continue
        if not repository.paths(manifest, tree) & lease.unusable:
            found[manifest.guid] = tree
    return found


def _pages(repository: Repository, trees: Iterable[Tree]) -> dict[str, Page | None]:
    """By name; None: it cannot be read."""
    found: dict[str, Page | None] = {}
    for tree in trees:
        for name in tree.pages:
            if name is not None and name not in found:
                try:
                    found[name] = repository.page(name, tree.sizes)
                except Malformed:
                    found[name] = None          # a check says so
    return found


def _key(frame: Frame) -> Key:
    return frame.pack.id, frame.offset_bytes


def _sparse(pages: dict[str, Page | None], trees: Iterable[Tree], lease: Lease, share: float) -> dict[str, list[Frame]]:
    """The packs to be emptied, each with the frames that are needed of it. A pack that an unread page needs is left alone."""
    needed = {_key(frame): frame for page in pages.values() if page is not None for frame in page.needed()}
    unread = {pack for tree in trees for page, packs in zip(tree.pages, tree.packs_of, strict=True)
              if page is not None and pages[page] is None for pack in packs}
    by_pack: dict[str, list[Frame]] = {}
    for frame in needed.values():
        by_pack.setdefault(frame.pack.id, []).append(frame)
    return {pack: sorted(frames, key=lambda each: each.offset_bytes) for pack, frames in by_pack.items()
            if pack not in unread and path(PACKS, pack) not in lease.unusable
            and sum(each.stored_bytes for each in frames) < share * frames[0].pack.size_bytes}


class _Move:
    """Frames on their way into new packs."""

    def __init__(self, repository: Repository, lease: Lease, pack_bytes: int) -> None:
        self._repository = repository
        self._lease = lease
        self._pack_bytes = pack_bytes
        self._pack, self._parts = Pack(), list[bytes]()

    def run(self, sparse: dict[str, list[Frame]], result: Repacked, told: Told) -> dict[Key, Frame]:
        """Where each frame is now. A pack of which anything is rotten stays whole."""
        moved: dict[Key, Frame] = {}
        for done, (pack, frames) in enumerate(sorted(sparse.items())):
            told(done, len(sparse), result.moved_bytes)
            try:
                stored = [self._verified(frame) for frame in frames]
            except Malformed:
                continue
            for frame, raw in zip(frames, stored, strict=True):
                moved[pack, frame.offset_bytes] = self._add(frame, raw)
            result.packs += 1
            result.moved_bytes += sum(map(len, stored))
            result.freed_bytes += frames[0].pack.size_bytes - sum(map(len, stored))
        self._close()
        return moved

    def _verified(self, frame: Frame) -> bytes:
        stored = self._repository.load(frame.pack.id, frame.offset_bytes, frame.stored_bytes)
        self._repository.unpack_frame(frame, stored)
        return stored

    def _add(self, frame: Frame, stored: bytes) -> Frame:
        if self._pack.size_bytes + len(stored) > self._pack_bytes:
            self._close()
        new = Frame(self._pack, self._pack.size_bytes, len(stored), frame.blocks, frame.digest)
        self._pack.size_bytes += len(stored)
        self._parts.append(stored)
        return new

    def _close(self) -> None:
        if self._parts:
            self._pack.id, self._pack.size_bytes = self._repository.save_pack(b"".join(self._parts), self._lease)
        self._pack, self._parts = Pack(), []


def _new_page(repository: Repository, lease: Lease, page: Page, moved: dict[Key, Frame]) -> tuple[str, list[Pack]]:
    """Its name, and the packs that it refers to."""
    renewed = Page([moved.get(_key(frame), frame) for frame in page.frames], page.runs)
    return repository.save_page(renewed, lease), renewed.packs()


def _refer(repository: Repository, lease: Lease, guid: str, tree: Tree, renamed: dict[str, tuple[str, list[Pack]]],
           result: Repacked) -> None:
    """Let a backup refer to the new pages, if it is still there and as it was."""
    groups = [group for group, page in enumerate(tree.pages) if page in renamed]
    if not groups:
        return
    before = hashlib.sha256(tree.pack()).digest()
    for group in groups:
        page = tree.pages[group]
        assert page is not None
        tree.set(group, *renamed[page])
    name = repository.save_tree(tree, lease)
    repository.store.settle()
    lease.renew()
    manifest = next((each for each in repository.manifests() if each.guid == guid), None)
    if manifest is not None and hashlib.sha256(repository.tree(manifest.tree).pack()).digest() == before:
        repository.save_manifest(replace(manifest, tree=name), over=True)
        result.backups += 1
