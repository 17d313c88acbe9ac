"""A repository: its objects by kind, verified as they are read; which of them are damaged, and who is writing.

Blocking, like its store. How a backup is made of this is in backup.py, how it comes back in restore.py, how space comes back in
collection.py.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import time
import zlib
from collections.abc import Iterable, Iterator

from target.errors import LunetteError
from target.repository.format import (
    CONFIG,
    DAMAGE,
    FORMAT,
    MARKS,
    PACKS,
    PAGES,
    SNAPSHOTS,
    TREES,
    WRITERS,
    Frame,
    Malformed,
    Manifest,
    Page,
    Tree,
    pack_page,
    path,
    unpack_page,
    unzip,
)
from target.repository.sealing import AesSealer, Sealer, read_key_file
from target.repository.store import Store

LEASE_SECONDS = 3600            # a writer that was silent for so long is gone
CHECK = "check"
SALT_BYTES = 16
PUT_TIMES = 3


class Repository:
    """An open repository."""

    def __init__(self, store: Store, sealer: Sealer, repository_id: str, name: str) -> None:
        self.store = store
        self.sealer = sealer
        self.id = repository_id
        self.name = name

    @staticmethod
    def open(store: Store, name: str, key_file: str | None, *, make: bool = False) -> Repository:
        """With `make` an empty place becomes one. LunetteError: not_found, invalid, forbidden (wrong key), store."""
        raw = store.get(CONFIG)
        if raw is None:
            if not make:
                raise LunetteError("not_found", f"{store.url.partition('?')[0]} holds no repository")
            if store.list(""):
                raise LunetteError("invalid", f"{store.url.partition('?')[0]} is not empty, and no repository")
            _create(store, key_file)
            raw = store.get(CONFIG) or b""
        try:
            config = json.loads(raw)
            version, repository_id, cipher = config["format"], str(config["id"]), config["cipher"]
        except (ValueError, KeyError, TypeError):
            raise LunetteError("invalid", f"{store.url.partition('?')[0]} holds no repository that can be read") from None
        if version != FORMAT or cipher not in (None, AesSealer.cipher):
            raise LunetteError("newer", f"repository {name} was made by a newer version")
        if cipher is None:
            return Repository(store, Sealer(), repository_id, name)
        if key_file is None:
            raise LunetteError("forbidden", f"repository {name} is encrypted: it needs its key file")
        sealer = AesSealer(read_key_file(key_file), repository_id)
        try:
            sealer.open(CHECK, bytes.fromhex(config["check"]))
        except (Malformed, ValueError):
            raise LunetteError("forbidden", f"{key_file} is not the key of repository {name}") from None
        return Repository(store, sealer, repository_id, name)

    # -- backups -------------------------------------------------------------------------------------------------
    def manifests(self) -> list[Manifest]:
        """All backups, the oldest snapshot first. LunetteError damaged for one that cannot be read."""
        found = [self._manifest(where) for where in self.store.list(SNAPSHOTS)]
        return sorted((each for each in found if each is not None), key=lambda each: (each.created_s, each.name))

    def find(self, text: str) -> Manifest:
        """A backup by NAME@LABEL, or by its GUID. LunetteError: not_found, invalid (two have that name)."""
        found = [each for each in self.manifests() if text in (each.name, each.guid)]
        if not found:
            raise LunetteError("not_found", f"repository {self.name} has no {text!r}")
        if len(found) > 1:
            raise LunetteError("invalid", f"repository {self.name} has {text} of several volumes, take the GUID: "
                                          + ", ".join(each.guid for each in found))
        return found[0]

    def _manifest(self, where: str) -> Manifest | None:
        raw = self.store.get(where)
        if raw is None:
            return None                         # deleted meanwhile
        try:
            return Manifest.unpack(self.sealer.open(SNAPSHOTS, raw))
        except Malformed as error:
            raise LunetteError("damaged", f"repository {self.name}: {where}: {error}") from None

    def save_manifest(self, manifest: Manifest, *, over: bool) -> bool:
        """The last step of a backup. False: there is one of that snapshot already, and it is not to be replaced."""
        return self.store.put(path(SNAPSHOTS, manifest.guid), self.sealer.seal(SNAPSHOTS, manifest.pack()), new=not over)

    def forget(self, manifest: Manifest) -> None:
        """Delete a backup. What only it referred to goes by the next collections."""
        self.store.delete(path(SNAPSHOTS, manifest.guid))

    # -- pages and trees -----------------------------------------------------------------------------------------
    def tree(self, name: str) -> Tree:
        """Malformed when it is missing or not what its name says."""
        raw = self._named(TREES, name)
        return Tree.unpack(raw)

    def save_tree(self, tree: Tree, lease: Lease) -> str:
        return self._save(TREES, tree.pack(), lease)

    def page(self, name: str, sizes: dict[str, int]) -> Page:
        """Malformed when it is missing or not what its name says."""
        return unpack_page(unzip(self._named(PAGES, name)), sizes)

    def save_page(self, page: Page, lease: Lease) -> str:
        return self._save(PAGES, zlib.compress(pack_page(page), 1), lease)

    def _named(self, kind: str, name: str) -> bytes:
        where = path(kind, name)
        sealed = self.store.get(where)
        if sealed is None:
            raise Malformed(f"{where} is missing")
        try:
            raw = self.sealer.open(kind, sealed)
        except Malformed as error:
            raise Malformed(f"{where}: {error}") from None
        if self.sealer.name(raw) != name:
            raise Malformed(f"{where} is not what its name says")
        return raw

    def _save(self, kind: str, raw: bytes, lease: Lease) -> str:
        """Content-addressed: one that is there already is shared, but for one about to be swept: ours has another name."""
        if path(kind, self.sealer.name(raw)) in lease.marked:
            raw += secrets.token_bytes(SALT_BYTES)      # behind what is compressed, where nobody looks
        name = self.sealer.name(raw)
        where = path(kind, name)
        sealed = self.sealer.seal(kind, raw)
        self._put(where, sealed, lease, new=where not in lease.damaged)
        return name

    # -- frames --------------------------------------------------------------------------------------------------
    def save_pack(self, data: bytes, lease: Lease) -> tuple[str, int]:
        """A pack, looked at when it is stored: its id and its bytes. LunetteError store."""
        name = hashlib.sha256(data).hexdigest()
        if path(PACKS, name) in lease.marked:
            data += secrets.token_bytes(SALT_BYTES)     # behind its last frame
            name = hashlib.sha256(data).hexdigest()
        self._put(path(PACKS, name), data, lease, new=False)
        return name, len(data)

    def _put(self, where: str, data: bytes, lease: Lease, *, new: bool) -> None:
        """An answer alone is not believed: what was acknowledged and lost is put again. LunetteError store."""
        for _ in range(PUT_TIMES):
            self.store.put(where, data, new=new)
            stat = self.store.stat(where)
            if stat is not None and stat.size_bytes == len(data):
                if where in lease.damaged:
                    self.mend(where)
                return
            new = False
        raise LunetteError("store", f"repository {self.name}: {where} was stored and is not there")

    def load(self, pack: str, offset_bytes: int, length_bytes: int) -> bytes:
        """Bytes of a pack. Malformed when it is missing or shorter."""
        raw = self.store.get_range(path(PACKS, pack), offset_bytes, length_bytes)
        if raw is None:
            raise Malformed(f"{path(PACKS, pack)} is missing or too short")
        return raw

    def unpack_frame(self, frame: Frame, stored: bytes) -> bytes:
        """What a frame holds, verified. Malformed."""
        from core.stream.frame import StreamError, payload_of

        where = path(PACKS, frame.pack.id)
        try:
            payload = payload_of(self.sealer.open(PACKS, stored))
        except StreamError as error:
            raise Malformed(f"{where}: a frame is damaged: {error}") from None
        except Malformed as error:
            raise Malformed(f"{where}: {error}") from None
        if self.sealer.digest(payload) != frame.digest:
            raise Malformed(f"{where}: a frame is not what was stored")
        return payload

    # -- damage --------------------------------------------------------------------------------------------------
    def damaged(self) -> dict[str, str]:
        """Paths of objects that were found missing or rotten, and why."""
        found = {}
        for where in self.store.list(DAMAGE):
            with contextlib.suppress(ValueError, KeyError, TypeError):
                document = json.loads(self.store.get(where) or b"")
                found[str(document["path"])] = str(document["why"])
        return found

    def mark_damaged(self, where: str, why: str) -> None:
        self.store.put(path(DAMAGE, where.rpartition("/")[2]), json.dumps({"path": where, "why": why}).encode())

    def mend(self, where: str) -> None:
        """It is whole again."""
        self.store.delete(path(DAMAGE, where.rpartition("/")[2]))

    def paths(self, manifest: Manifest, tree: Tree | None = None) -> set[str]:
        """Everything that a backup refers to. Malformed when its tree cannot be read."""
        tree = self.tree(manifest.tree) if tree is None else tree
        return {path(TREES, manifest.tree), *(path(PAGES, each) for each in tree.pages if each is not None),
                *(path(PACKS, each) for packs in tree.packs_of for each in packs)}

    # -- writers and collections ---------------------------------------------------------------------------------
    def marked(self) -> dict[str, frozenset[str]]:
        """Collections that have marked what they will sweep: by their names, the paths."""
        found = {}
        for where in self.store.list(MARKS):
            with contextlib.suppress(ValueError, TypeError):
                found[where] = frozenset(json.loads(self.store.get(where) or b""))
        return found

    def writers(self) -> dict[str, frozenset[str]]:
        """Writers at work, and the marks that each of them knows; those that fell silent are left out."""
        found, listed = {}, self.store.list(WRITERS)
        now_s = self.now_s() if listed else 0.0
        for where, stat in listed.items():
            if now_s - stat.modified_s < LEASE_SECONDS:
                raw = self.store.get(where)
                with contextlib.suppress(ValueError, TypeError):
                    found[where] = frozenset(json.loads(raw)) if raw is not None else frozenset()
        return found

    def now_s(self) -> float:
        """The time by the store's clock, which is what ages are counted by."""
        where = path(WRITERS, "clock")
        self.store.put(where, b"")
        stat = self.store.stat(where)
        self.store.delete(where)
        return time.time() if stat is None else stat.modified_s


class Lease:
    """A writer's: while it lasts, nothing that it may refer to is swept."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._where = path(WRITERS, secrets.token_hex(16))
        self._known: frozenset[str] = frozenset()
        self._renewed_s = 0.0
        self.marked: frozenset[str] = frozenset()       # paths that are about to be swept: nothing may refer to them anew
        self.damaged: frozenset[str] = frozenset()      # paths of what is not there, or rotten

    def begin(self) -> None:
        """Announce it, then look at what is about to go: what is marked after this is not swept before the end."""
        self._put()
        marked = self._repository.marked()
        self._known = frozenset(marked)
        self.marked = frozenset().union(*marked.values())
        self.damaged = frozenset(self._repository.damaged())
        self._put()

    def renew(self) -> None:
        """LunetteError gone when it was silent for too long: what it relied on may be swept."""
        if time.monotonic() - self._renewed_s > LEASE_SECONDS / 2 or self._repository.store.stat(self._where) is None:
            raise LunetteError("gone", "the backup was stopped for too long, and what it relied on may be gone: begin again")
        self._put()

    @property
    def unusable(self) -> frozenset[str]:
        return self.marked | self.damaged

    def add_damaged(self, paths: Iterable[str]) -> None:
        self.damaged = self.damaged.union(paths)

    def end(self) -> None:
        self._repository.store.delete(self._where)

    def _put(self) -> None:
        self._repository.store.put(self._where, json.dumps(sorted(self._known)).encode())
        self._renewed_s = time.monotonic()


@contextlib.contextmanager
def writing(repository: Repository) -> Iterator[Lease]:
    """A lease for so long."""
    lease = Lease(repository)
    lease.begin()
    try:
        yield lease
    finally:
        with contextlib.suppress(LunetteError):     # one that stays counts as silent after a while
            lease.end()


def _create(store: Store, key_file: str | None) -> None:
    repository_id = secrets.token_hex(16)
    config: dict[str, object] = {"format": FORMAT, "id": repository_id, "cipher": None}
    if key_file is not None:
        sealer = AesSealer(read_key_file(key_file), repository_id)
        config.update(cipher=sealer.cipher, check=sealer.seal(CHECK, repository_id.encode()).hex())
    store.put(CONFIG, json.dumps(config).encode(), new=True)
    store.settle()
