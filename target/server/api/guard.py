"""Nothing is destroyed unasked: what would take data or a LUN from someone who uses it is refused here, unless it is forced.

The refusal says who has it open, from where, and what would be lost (docs/operations.md, "What wants --force").
"""

from __future__ import annotations

from collections.abc import Sequence

from target.config import format_size
from target.errors import LunetteError
from target.scsi import MEDIUM_STATES, Target
from target.server.iscsi.nexus import NexusSession
from target.volumes.catalog import Host
from target.volumes.gateway import AsyncPool, ObjectInfo

SHOWN = 3   # of many sessions, so many are named


def who(sessions: Sequence[NexusSession]) -> str:
    """Initiators and the addresses they come from."""
    found = list(dict.fromkeys(f"{each.nexus.initiator_name} from {each.peer}" for each in sessions))
    return ", ".join(found[:SHOWN]) + (f" and {len(found) - SHOWN} more" if len(found) > SHOWN else "")


def in_use(name: str, users: Sequence[NexusSession], otherwise: str) -> LunetteError:
    """Refused because sessions have it open; `otherwise` says what --force does, and what is lost by it."""
    return LunetteError("in_use", f"{name} is in use by {who(users)}; {otherwise}")


def check_delete(info: ObjectInfo, users: Sequence[NexusSession]) -> None:
    """LunetteError in_use."""
    if users:
        raise in_use(info.name, users, "--force deletes it all the same, with all that it holds")


def check_revert(volume: ObjectInfo, snapshot: ObjectInfo, users: Sequence[NexusSession], safety_name: str) -> None:
    """LunetteError in_use, or needs_force when the sizes differ."""
    kept = f"{safety_name} keeps what it holds now" if safety_name else \
        f"what was written to it since {snapshot.name} was taken is lost"
    sizes = "" if volume.size_bytes == snapshot.size_bytes else \
        f"{format_size(volume.size_bytes)} become {format_size(snapshot.size_bytes)}"
    if users:
        also = f", {sizes}" if sizes else ""
        raise in_use(volume.name, users, f"--force reverts it under them{also}, {kept}")
    if sizes:
        raise LunetteError("needs_force", f"{volume.name} would change its size, {sizes}; --force reverts it, {kept}")


def check_shrink(volume: ObjectInfo, size_bytes: int, users: Sequence[NexusSession]) -> None:
    """LunetteError in_use or needs_force for a size that cuts a volume."""
    if size_bytes >= volume.size_bytes:
        return
    lost = f"--force cuts it to {format_size(size_bytes)}, and its last {format_size(volume.size_bytes - size_bytes)} are lost"
    if users:
        raise in_use(volume.name, users, lost)
    raise LunetteError("needs_force", f"{volume.name} has {format_size(volume.size_bytes)}; {lost}")


def check_quota(volume: ObjectInfo, quota_bytes: int, users: Sequence[NexusSession]) -> None:
    """LunetteError in_use for a quota that what is mapped exceeds already: the next new block would be refused."""
    if users and 0 < quota_bytes < volume.mapped_bytes:
        raise in_use(volume.name, users, f"it has {format_size(volume.mapped_bytes)} mapped, more than a quota of "
                                         f"{format_size(quota_bytes)}; --force sets it, and their writes to new blocks fail")


def cut_off(target: Target, sessions: Sequence[NexusSession], group: int) -> list[tuple[NexusSession, int]]:
    """Sessions, each with an object that they use through a port group, and that their initiator reaches through no other."""
    def through(session: NexusSession) -> dict[int, bool]:
        """Object -> whether this is the session's way to it, and not through the group."""
        port = target.ports.get(session.nexus.target_port)
        other = port is None or port.group != group
        units = target.luns(session.nexus)
        return {object_id: other for lun, object_id in session.luns.items()
                if lun in units and target.state_of(session.nexus, units[lun]) in MEDIUM_STATES}

    ways = {id(session): through(session) for session in sessions}
    safe = {(session.nexus.initiator_name, object_id) for session in sessions
            for object_id, other in ways[id(session)].items() if other}
    return [(session, object_id) for session in sessions for object_id, other in ways[id(session)].items()
            if not other and object_id in session.used and (session.nexus.initiator_name, object_id) not in safe]


def check_luns(losses: Sequence[tuple[NexusSession, int]], pool: AsyncPool, otherwise: str) -> None:
    """LunetteError in_use when sessions would lose LUNs that they use, or see other objects there."""
    if not losses:
        return
    infos = {object_id: pool.info(object_id) for _, object_id in losses}
    names = sorted(info.name for info in infos.values() if info is not None)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    what = ", ".join(names[:SHOWN]) + more
    raise LunetteError("in_use", f"{what} {'is' if len(names) == 1 else 'are'} in use by {who([each for each, _ in losses])}; "
                                 f"{otherwise}, and what they have not written yet is lost")


def check_host(host: Host, sessions: Sequence[NexusSession]) -> None:
    """LunetteError in_use while initiators that would leave a host are logged in."""
    if sessions:
        raise LunetteError("in_use", f"host {host.name} is logged in: {who(sessions)}; --force ends these sessions, and what "
                                     "they have not written yet is lost")
