"""Copies that the target makes itself: EXTENDED COPY, tokens (POPULATE, WRITE USING TOKEN), results, the page that says so.

`results` and `tokens` are state, of which units and targets are made; the commands (`extended_copy`, `offload`) and the
`page` stand above them and may import what a handler is given (`target.scsi.task`).
"""
