"""Comparing: where a snapshot here and one at the peer differ, when they have nothing in common: hashes, coarse, then fine."""

from __future__ import annotations

import asyncio

from target.errors import LunetteError
from target.server.mirroring.contact import Contact
from target.volumes.gateway import AsyncPool, ObjectInfo
from target.volumes.streams import Hashing

SPANS = 1024            # of 2 MiB in one request
FINE = 256              # of those that differ in one request


async def differences(pool: AsyncPool, contact: Contact, volume_guid: str, snapshot: ObjectInfo, base_guid: str) -> list[bytes]:
    """Rows of where `snapshot` differs from the peer's `base_guid`, as a walk would give them. LunetteError."""
    async def theirs(wanted: int, **which: object) -> bytes:
        answer = await contact.request("hashes", volume=volume_guid, snapshot=base_guid, **which)
        try:
            found = bytes.fromhex(answer["digests"])
        except (KeyError, TypeError, ValueError):
            found = b""
        if len(found) != wanted:
            raise LunetteError("invalid", "the hashes of the peer make no sense")
        return found

    found = []
    async with Hashing(pool, snapshot.id) as hashing:
        total = hashing.spans_of(snapshot.size_bytes)
        for first in range(0, total, SPANS):
            count = min(SPANS, total - first)
            ours, others = await asyncio.gather(
                hashing.spans(first, count), theirs(hashing.digest_bytes(spans=count), first=first, count=count))
            unlike = hashing.differing(ours, others, first)
            for at in range(0, len(unlike), FINE):
                part = unlike[at:at + FINE]
                ours, others = await asyncio.gather(
                    hashing.chunks(part), theirs(hashing.digest_bytes(fine=len(part)), spans=part))
                found += hashing.rows(part, ours, others, snapshot.size_bytes)
    return found
