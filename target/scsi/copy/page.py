"""The Third-party Copy page: what the copy manager can do (SPC-4 §7.8.17)."""

from __future__ import annotations

from target.scsi.copy import extended_copy, offload
from target.scsi.copy.results import KEPT_RESULTS
from target.scsi.task import Task

THIRD_PARTY_COPY_OUT, THIRD_PARTY_COPY_IN = 0x83, 0x84


def _descriptor(kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    return kind.to_bytes(2, "big") + len(body).to_bytes(2, "big") + body


def third_party_copy(task: Task) -> bytes:
    """The body of the page."""
    commands = b""
    for opcode in (THIRD_PARTY_COPY_OUT, THIRD_PARTY_COPY_IN):
        actions = sorted(action for action in task.table.actions(opcode) if action is not None)
        commands += bytes([opcode, len(actions), *actions])
    codes = bytes([*extended_copy.SEGMENT_BYTES, extended_copy.IDENTIFICATION_CSCD])
    limits = (bytes(4) + extended_copy.MAX_CSCDS.to_bytes(2, "big") + extended_copy.MAX_SEGMENTS.to_bytes(2, "big")
              + extended_copy.MAX_DESCRIPTOR_BYTES.to_bytes(4, "big") + bytes(16))
    operations = (KEPT_RESULTS.to_bytes(4, "big") * 2 + extended_copy.MAX_SEGMENT_BYTES.to_bytes(4, "big")
                  + bytes([9, 9]) + bytes(18))
    tokens = offload.page_descriptors(task.unit)
    return (b"".join(_descriptor(kind, body) for kind, body in tokens[:1])
            + _descriptor(0x0001, bytes([len(commands)]) + commands)
            + _descriptor(0x0004, limits)
            + _descriptor(0x0008, bytes([len(codes)]) + codes)
            + _descriptor(0x000C, bytes(2))
            + b"".join(_descriptor(kind, body) for kind, body in tokens[1:])
            + _descriptor(0x8001, operations))
