"""The Third-party Copy page: what the copy manager can do (SPC-4 §7.8.17)."""

from __future__ import annotations

from target.scsi import copy, offload
from target.scsi.cdb import Task
from target.scsi.copy_results import KEPT_RESULTS

THIRD_PARTY_COPY_OUT, THIRD_PARTY_COPY_IN = 0x83, 0x84


def _descriptor(kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    return kind.to_bytes(2, "big") + len(body).to_bytes(2, "big") + body


def build(task: Task) -> bytes:
    """The body of the page."""
    commands = b""
    for opcode in (THIRD_PARTY_COPY_OUT, THIRD_PARTY_COPY_IN):
        actions = sorted(action for action in task.table.actions(opcode) if action is not None)
        commands += bytes([opcode, len(actions), *actions])
    codes = bytes([*copy.SEGMENT_BYTES, copy.IDENTIFICATION_CSCD])
    limits = (bytes(4) + copy.MAX_CSCDS.to_bytes(2, "big") + copy.MAX_SEGMENTS.to_bytes(2, "big")
              + copy.MAX_DESCRIPTOR_BYTES.to_bytes(4, "big") + bytes(16))
    operations = (KEPT_RESULTS.to_bytes(4, "big") * 2 + copy.MAX_SEGMENT_BYTES.to_bytes(4, "big")
                  + bytes([9, 9]) + bytes(18))
    tokens = offload.page_descriptors(task.unit)
    return (b"".join(_descriptor(kind, body) for kind, body in tokens[:1])
            + _descriptor(0x0001, bytes([len(commands)]) + commands)
            + _descriptor(0x0004, limits)
            + _descriptor(0x0008, bytes([len(codes)]) + codes)
            + _descriptor(0x000C, bytes(2))
            + b"".join(_descriptor(kind, body) for kind, body in tokens[1:])
            + _descriptor(0x8001, operations))
