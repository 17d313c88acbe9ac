"""Pages of metadata that turned out to be bad, in words (docs/operations.md, Damage)."""

from __future__ import annotations

from collections.abc import Callable

from target.volumes.gateway import BadPage, ObjectInfo

_FAULTS = {"io_read": "cannot be read", "checksum": "fails its checksum"}
_NOT_USED = {"count": "space that it counts is neither taken nor freed",
             "csum": "data that it has checksums of cannot be verified, and none is added"}


def describe(page: BadPage, info: Callable[[int], ObjectInfo | None]) -> str:
    """One line: what is bad, whose it is, and what that means."""
    owner = info(page.object_id) if page.kind == "node" and page.object_id else None
    whose = f" of {owner.kind} {owner.name}" if owner is not None else ""
    meant = _NOT_USED.get(page.kind)
    return (f"{page.kind} page at block {page.block}{whose} {_FAULTS.get(page.code, page.code)}"
            + (f"; {meant}" if meant else ""))
