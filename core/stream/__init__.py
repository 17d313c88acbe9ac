"""Streams: what is in a snapshot, or changed since another one, as frames on a descriptor and back (docs/stream-format.md).

May import `core.base`; nothing in core imports it.
"""
