"""Lineage: which volume a snapshot belongs to. It is the one that it was taken of, by id; its name only follows that volume's.

A volume that is deleted leaves its snapshots behind, as orphans under their old names. A later volume may have the name that
theirs begin with: they are not its snapshots. What a command says of such a pair of names is worded here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable

from target.errors import LunetteError
from target.volumes.gateway import AsyncPool, ObjectInfo

SHOWN = 3   # of many names, so many are told


def volume_part(snapshot_name: str) -> str:
    """The name before the @: that of the volume, as long as there is one."""
    return snapshot_name.partition("@")[0]


class Lineage:
    """Looks owners and snapshots up in a pool. Told of every snapshot that is made or renamed (`named`)."""

    def __init__(self, pool: AsyncPool) -> None:
        self._pool = pool
        self._index: dict[str, set[int]] | None = None   # name before the @ -> ids; some are gone or have another name by now

    def owner(self, snapshot: ObjectInfo) -> ObjectInfo | None:
        """The volume or clone that a snapshot was taken of; None when it was deleted."""
        return self._pool.info(snapshot.origin_id)

    def origin(self, info: ObjectInfo) -> str:
        """What an object was made of, by its present name; by the name it had then when it is gone; empty for none."""
        source = self._pool.info(info.origin_id) if info.origin_id else None
        return info.origin if source is None else source.name

    def origin_deleted(self, info: ObjectInfo) -> bool:
        """Whether it was made of something that is gone."""
        return bool(info.origin_id) and self._pool.info(info.origin_id) is None

    def is_orphan(self, info: ObjectInfo) -> bool:
        """A snapshot whose volume was deleted. A clone of something that is gone is none: it needs no other."""
        return info.kind == "snapshot" and self.origin_deleted(info)

    def snapshots_named(self, volume_name: str, volume_id: int) -> list[ObjectInfo]:
        """A volume's own snapshots whose names begin with that one, oldest first."""
        return [each for each in self._beginning(volume_name) if each.origin_id == volume_id]

    def strangers(self, volume: ObjectInfo) -> list[ObjectInfo]:
        """Snapshots whose name begins with this volume's, and which are of another that was deleted; oldest first."""
        return [each for each in self._beginning(volume.name) if each.origin_id != volume.id]

    def named(self, infos: Iterable[ObjectInfo | None]) -> None:
        """These objects have got the names they have now."""
        if self._index is not None:
            for info in infos:
                if info is not None and info.kind == "snapshot":
                    self._index.setdefault(volume_part(info.name), set()).add(info.id)

    def check_rename(self, snapshot: ObjectInfo, name: str) -> None:
        """LunetteError unless a snapshot that is called so still says whose it is."""
        owner, part = self.owner(snapshot), volume_part(name)
        if owner is not None and part not in (owner.name, volume_part(snapshot.name)):
            raise LunetteError("invalid", f"{snapshot.name} is a snapshot of {owner.name}: only what follows the @ can change")
        if owner is None and self._pool.lookup(part) is not None:
            raise LunetteError("invalid", f"{snapshot.name} is of a volume that was deleted, not of the {part} there is now: "
                                          f"{name} would say that it is")

    # -- what commands say ---------------------------------------------------------------------------------------
    def not_its_own(self, snapshot: ObjectInfo) -> str | None:
        """A line about a snapshot that is taken for one of another volume by its name; None for any other."""
        namesake = self._pool.lookup(volume_part(snapshot.name)) if snapshot.kind == "snapshot" else None
        if namesake is None or namesake.id == snapshot.origin_id:
            return None
        owner = self.owner(snapshot)
        whose = f"an earlier {namesake.name} that was deleted" if owner is None else owner.name
        return f"{snapshot.name} is of {whose}, not of the {namesake.name} there is now"

    def not_of(self, volume: ObjectInfo) -> str | None:
        """A line about snapshots that are taken for this volume's by their names; None without any."""
        if volume.kind == "snapshot":
            return self.not_its_own(volume)
        found = [each.name for each in self.strangers(volume)]
        if not found:
            return None
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        return f"{', '.join(found[:SHOWN])}{more}: of an earlier {volume.name} that was deleted, not of this one"

    def without_volume(self, snapshot: ObjectInfo) -> LunetteError:
        """Why an orphan cannot be reverted to."""
        why = self.not_its_own(snapshot) or f"{snapshot.name} is of a volume that was deleted"
        return LunetteError("gone", f"{why}: nothing can be reverted to it, but clone {snapshot.name} NEW makes a volume of it")

    # -- inside --------------------------------------------------------------------------------------------------
    def _beginning(self, volume_name: str) -> list[ObjectInfo]:
        if self._index is None:
            self._index = {}
            for name, number in self._pool.names().items():
                if "@" in name:
                    self._index.setdefault(volume_part(name), set()).add(number)
        found = []
        for number in sorted(self._index.get(volume_name, ())):
            info = self._pool.info(number)
            if info is not None and volume_part(info.name) == volume_name:
                found.append(info)
        if found:
            self._index[volume_name] = {info.id for info in found}
        else:
            self._index.pop(volume_name, None)
        return found
