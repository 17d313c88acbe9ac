"""The Third-party Copy page: what the copy manager can do (SPC-4 §7.8.17)."""

from __future__ import annotations

from target.scsi.copy import extended_copy, offload
from target.scsi.copy.results import KEPT_RESULTS
from target.scsi.fields import Field, build
from target.scsi.task import Task

THIRD_PARTY_COPY_OUT, THIRD_PARTY_COPY_IN = 0x83, 0x84
# Kinds of descriptors, which stand in the page in their order; each begins with its kind and the length of its body.
COMMANDS, PARAMETERS, SEGMENT_TYPES, HELD_DATA, OPERATIONS = 0x0001, 0x0004, 0x0008, 0x000C, 0x8001
HEADER_BYTES, KIND, LENGTH = 4, Field(0, 2), Field(2, 2)
PARAMETERS_BYTES, MAX_CSCDS, MAX_SEGMENTS, MAX_DESCRIPTOR_BYTES = 28, Field(4, 2), Field(6, 2), Field(8, 4)
HELD_DATA_BYTES = 2
OPERATIONS_BYTES, COPIES, CONCURRENT_COPIES, MAX_SEGMENT_BYTES = 32, Field(0, 4), Field(4, 4), Field(8, 4)
SEGMENT_GRAIN, INLINE_GRAIN = Field(12), Field(13)


def _descriptor(kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    return build(HEADER_BYTES, (KIND, kind), (LENGTH, len(body))) + body


def third_party_copy(task: Task) -> bytes:
    """The body of the page."""
    commands = b""
    for opcode in (THIRD_PARTY_COPY_OUT, THIRD_PARTY_COPY_IN):
        actions = sorted(action for action in task.table.actions(opcode) if action is not None)
        commands += bytes([opcode, len(actions), *actions])
    codes = bytes([*extended_copy.SEGMENT_BYTES, extended_copy.IDENTIFICATION_CSCD])
    limits = build(PARAMETERS_BYTES, (MAX_CSCDS, extended_copy.MAX_CSCDS), (MAX_SEGMENTS, extended_copy.MAX_SEGMENTS),
                   (MAX_DESCRIPTOR_BYTES, extended_copy.MAX_DESCRIPTOR_BYTES))
    operations = build(OPERATIONS_BYTES, (COPIES, KEPT_RESULTS), (CONCURRENT_COPIES, KEPT_RESULTS),
                       (MAX_SEGMENT_BYTES, extended_copy.MAX_SEGMENT_BYTES), (SEGMENT_GRAIN, extended_copy.HELD_GRAIN),
                       (INLINE_GRAIN, extended_copy.HELD_GRAIN))
    described = [(COMMANDS, bytes([len(commands)]) + commands), (PARAMETERS, limits),
                 (SEGMENT_TYPES, bytes([len(codes)]) + codes), (HELD_DATA, bytes(HELD_DATA_BYTES)), (OPERATIONS, operations),
                 *offload.page_descriptors(task.unit)]
    return b"".join(_descriptor(kind, body) for kind, body in sorted(described))
