"""What mirrors keep of each volume, on either side: the common snapshots, held; older ones of theirs go."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable

from target.errors import LunetteError
from target.volumes.gateway import ObjectInfo
from target.volumes.holds import StoredHolds
from target.volumes.mirrors import Mirror, Mirrors
from target.volumes.replicas import Replicas

log = logging.getLogger("lunette.mirror")


def hold_tag(peer: str) -> str:
    """By which a peer's mirrors hold a volume and its common snapshots."""
    return f"mirror:{peer}"


class Keeping:
    """Holds and deletions of one daemon's mirrors."""

    def __init__(self, mirrors: Mirrors, replicas: Replicas, holds: StoredHolds,
                 delete_unused: Callable[[ObjectInfo], Awaitable[None]]) -> None:
        self._mirrors = mirrors
        self._replicas = replicas
        self._holds = holds
        self._delete_unused = delete_unused

    def common(self, mirror: Mirror, guids: Iterable[str]) -> ObjectInfo | None:
        """The newest snapshot of the volume that is one of these."""
        wanted = set(guids)
        found = [info for info, _ in self._snapshots(mirror.volume_id) if self._replicas.guid(info) in wanted]
        return max(found, key=lambda info: (info.created_s, info.id), default=None)

    def guid(self, info: ObjectInfo) -> str:
        return self._replicas.guid(info)

    def guids(self, volume_id: int, most: int) -> list[str]:
        """Of a volume's snapshots, those of mirrors first, then the newest."""
        infos = sorted(self._snapshots(volume_id), key=lambda each: (each[1], each[0].created_s, each[0].id), reverse=True)
        return [self._replicas.guid(info) for info, _ in infos[:most]]

    async def hold(self, info: ObjectInfo, peer: str) -> None:
        """LunetteError."""
        if hold_tag(peer) not in self._holds.tags(info.id):
            await self._holds.hold(info, hold_tag(peer))

    def hold_keys(self, infos: Iterable[ObjectInfo], peer: str) -> dict[str, bytes | None]:
        """For a frame that changes more: they are held from then on. `held` afterwards."""
        return self._holds.keys([each.id for each in infos], hold_tag(peer))

    def held(self, infos: Iterable[ObjectInfo], peer: str) -> None:
        self._holds.made([each.id for each in infos], hold_tag(peer))

    async def release(self, info: ObjectInfo, peer: str) -> None:
        if hold_tag(peer) in self._holds.tags(info.id):
            await self._holds.release(info, hold_tag(peer))

    async def tidy(self, mirror: Mirror) -> None:
        """Let go of what is older than the common ones. What cannot be deleted now is tried again after the next round."""
        kept = {each.guid for each in mirror.common}
        held = [info for info, _ in self._snapshots(mirror.volume_id) if self._replicas.guid(info) in kept]
        for info in held:
            await self.hold(info, mirror.peer)
        oldest = min(((info.created_s, info.id) for info in held), default=(0.0, 0))
        for info, marked in self._snapshots(mirror.volume_id):
            if self._replicas.guid(info) in kept or (info.created_s, info.id) > oldest:
                continue
            if marked:
                await self.discard(info, mirror.peer)
            else:
                await self.release(info, mirror.peer)

    async def discard(self, info: ObjectInfo, peer: str) -> None:
        """Delete a snapshot of a mirror that is not wanted any more, unless somebody else needs it."""
        await self.release(info, peer)
        try:
            await self._delete_unused(info)
        except LunetteError as error:
            log.info("a snapshot of a mirror stays for now: %s", error)

    async def let_go(self, mirror: Mirror, volume: ObjectInfo) -> None:
        """The volume is mirrored no more."""
        for info, _ in self._snapshots(mirror.volume_id):
            await self.release(info, mirror.peer)
        await self.release(volume, mirror.peer)

    def _snapshots(self, volume_id: int) -> list[tuple[ObjectInfo, bool]]:
        return [(info, self._mirrors.marked(info.id)) for info in self._replicas.snapshots(volume_id)]
