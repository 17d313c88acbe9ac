"""The native block core of Lunette, and the data plane and streams above it. It never imports `target`.

Rooms, each of which imports those below it: stream, wire, pool, ops, log, catalog, _blkmap, objects, space, pages, base
(docs/architecture.md, "The modules of the block core").
"""
