"""Streams: what is in a snapshot, or changed since another one, as frames on a descriptor and back (docs/stream-format.md).

May import `core.wire` (ring and device), `core.pool` (the engine's turn) and `core.base`; nothing in core imports it.
"""
