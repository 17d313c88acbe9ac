"""Comparing: where a snapshot here and one at the peer differ, when they have nothing in common: hashes, coarse, then fine."""

from __future__ import annotations

import asyncio

from target.errors import LunetteError
from target.server.mirroring.contact import Contact
from target.volumes.gateway import AsyncPool, ObjectInfo
from target.volumes.streams import Hashing

SPANS = 1024            # of 2 MiB in one request
FINE = 256              # of those that differ in one request
SECONDS = 600.0         # for an answer


async def differences(pool: AsyncPool, contact: Contact, volume_guid: str, snapshot: ObjectInfo, base_guid: str) -> list[bytes]:
    """Rows of where `snapshot` differs from the peer's `base_guid`, as a walk would give them. LunetteError."""
    from core.stream.hashes import CHUNKS, DIGEST_BYTES, SPAN_BYTES, differing, rows

    async def theirs(wanted: int, **which: object) -> bytes:
        answer = await contact.request("hashes", SECONDS, volume=volume_guid, snapshot=base_guid, **which)
        try:
            found = bytes.fromhex(answer["digests"])
        except (KeyError, TypeError, ValueError):
            found = b""
        if len(found) != wanted * DIGEST_BYTES:
            raise LunetteError("invalid", "the hashes of the peer make no sense")
        return found

    total = -(-snapshot.size_bytes // SPAN_BYTES)
    size, found = DIGEST_BYTES * CHUNKS, []
    async with Hashing(pool, snapshot.id) as hashing:
        for first in range(0, total, SPANS):
            count = min(SPANS, total - first)
            ours, others = await asyncio.gather(hashing.spans(first, count), theirs(count, first=first, count=count))
            unlike = differing(ours, others, first)
            for at in range(0, len(unlike), FINE):
                part = unlike[at:at + FINE]
                ours, others = await asyncio.gather(hashing.chunks(part), theirs(len(part) * CHUNKS, spans=part))
                found += [rows(span, ours[n * size:(n + 1) * size], others[n * size:(n + 1) * size], snapshot.size_bytes)
                          for n, span in enumerate(part)]
    return found
