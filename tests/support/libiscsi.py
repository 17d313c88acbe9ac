"""The system's libiscsi, whichever version: an initiator that shares no code with this project."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Any

from tests.support import libiscsi_binding
from tests.support.waiting import PATIENCE_SECONDS

GOOD, CHECK_CONDITION, RESERVATION_CONFLICT = 0x00, 0x02, 0x18
POWER_ON = 0x2900

_binding = libiscsi_binding.load()
lib: Any = _binding and _binding.lib
ffi: Any = _binding and _binding.ffi


class InitiatorError(Exception):
    """What libiscsi says went wrong."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A command's outcome. `asc` is (additional sense code << 8) | qualifier; `residual` bytes were not moved."""

    status: int
    key: int
    asc: int
    data: bytes
    residual: int


class Initiator:
    """One session. Leaving the block logs out."""

    def __init__(self, portal: str, target: str, name: str = "iqn.2026-01.test:initiator", *, chap: tuple[str, str] | None = None,
                 mutual: tuple[str, str] | None = None, header_digest: bool = False, isid: int = 1) -> None:
        self._context = lib.iscsi_create_context(name.encode())
        try:
            lib.iscsi_set_isid_random(self._context, isid, 0)
            lib.iscsi_set_targetname(self._context, target.encode())
            lib.iscsi_set_session_type(self._context, lib.ISCSI_SESSION_NORMAL)
            lib.iscsi_set_header_digest(self._context, lib.ISCSI_HEADER_DIGEST_CRC32C if header_digest
                                        else lib.ISCSI_HEADER_DIGEST_NONE)
            lib.iscsi_set_timeout(self._context, PATIENCE_SECONDS)
            lib.iscsi_set_noautoreconnect(self._context, 1)
            if chap:
                lib.iscsi_set_initiator_username_pwd(self._context, chap[0].encode(), chap[1].encode())
            if mutual:
                lib.iscsi_set_target_username_pwd(self._context, mutual[0].encode(), mutual[1].encode())
            self._check(lib.iscsi_connect_sync(self._context, portal.encode()))
            self._check(lib.iscsi_login_sync(self._context))
        except BaseException:
            lib.iscsi_destroy_context(self._context)
            raise

    def __enter__(self) -> Initiator:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            lib.iscsi_logout_sync(self._context)
        self.drop()

    def drop(self) -> None:
        """Close the connection without a logout."""
        if self._context is not None:
            lib.iscsi_disconnect(self._context)
            lib.iscsi_destroy_context(self._context)
            self._context = None

    def command(self, lun: int, cdb: bytes, *, read: int = 0, write: bytes = b"") -> Answer:
        """Send a CDB; `read` is how many bytes are expected back."""
        direction, length = lib.SCSI_XFER_NONE, 0
        if write:
            direction, length = lib.SCSI_XFER_WRITE, len(write)
        elif read:
            direction, length = lib.SCSI_XFER_READ, read
        task = lib.scsi_create_task(len(cdb), cdb, direction, length)
        out = ffi.NULL
        if write:
            buffer = ffi.from_buffer("unsigned char[]", write)
            out = ffi.new("struct iscsi_data *", {"size": len(write), "data": buffer})
        try:
            if lib.iscsi_scsi_command_sync(self._context, lun, task, out) == ffi.NULL:
                raise InitiatorError(ffi.string(lib.iscsi_get_error(self._context)).decode())
            data = bytes(ffi.buffer(task.datain.data, task.datain.size)) if task.datain.data != ffi.NULL else b""
            failed = task.status == CHECK_CONDITION
            return Answer(task.status, task.sense.key if failed else 0, task.sense.ascq if failed else 0,
                          b"" if failed else data, task.residual if task.residual_status else 0)
        finally:
            lib.scsi_free_scsi_task(task)

    def settle(self, lun: int = 0) -> list[int]:
        """TEST UNIT READY until no unit attention is left; the conditions told."""
        told = []
        while (answer := self.test_unit_ready(lun)).key == 6:
            told.append(answer.asc)
        return told

    def test_unit_ready(self, lun: int = 0) -> Answer:
        return self.command(lun, bytes(6))

    def read(self, lun: int, block: int, blocks: int, block_bytes: int = 512) -> Answer:
        """READ (16)."""
        return self.command(lun, b"\x88\0" + block.to_bytes(8) + blocks.to_bytes(4) + b"\0\0", read=blocks * block_bytes)

    def write(self, lun: int, block: int, data: bytes, block_bytes: int = 512, *, fua: bool = False) -> Answer:
        """WRITE (16)."""
        cdb = bytes([0x8A, 8 if fua else 0]) + block.to_bytes(8) + (len(data) // block_bytes).to_bytes(4) + b"\0\0"
        return self.command(lun, cdb, write=data)

    def synchronize_cache(self, lun: int = 0) -> Answer:
        return self.command(lun, b"\x35" + bytes(9))

    def inquiry(self, lun: int, page: int | None = None) -> bytes:
        cdb = b"\x12\0\0\x04\0\0" if page is None else bytes([0x12, 1, page, 4, 0, 0])
        return self.command(lun, cdb, read=1024).data

    def capacity(self, lun: int) -> tuple[int, int]:
        """READ CAPACITY (16): blocks and bytes in one."""
        answer = self.command(lun, b"\x9e\x10" + bytes(8) + (32).to_bytes(4) + b"\0\0", read=32)
        if answer.status != GOOD:
            raise InitiatorError(f"READ CAPACITY: {answer}")
        return int.from_bytes(answer.data[:8]) + 1, int.from_bytes(answer.data[8:12])

    def luns(self) -> list[int]:
        """REPORT LUNS as numbers."""
        answer = self.command(0, b"\xa0" + bytes(5) + (65536).to_bytes(4) + b"\0\0", read=65536)
        count = int.from_bytes(answer.data[:4]) // 8
        return [int.from_bytes(answer.data[8 + 8 * i:10 + 8 * i]) & 0x3FFF for i in range(count)]

    def task_management(self, lun: int, function: int, itt: int = 0xFFFFFFFF, cmd_sn: int = 0) -> int:
        """A task management function; libiscsi's result, 0 when the target says complete."""
        result: int = lib.iscsi_task_mgmt_sync(self._context, lun, function, itt, cmd_sn)
        return result

    def _check(self, result: int) -> None:
        if result:
            raise InitiatorError(ffi.string(lib.iscsi_get_error(self._context)).decode())


def discover(portal: str, name: str = "iqn.2026-01.test:initiator") -> dict[str, list[str]]:
    """SendTargets: target name -> portals."""
    context = lib.iscsi_create_context(name.encode())
    try:
        lib.iscsi_set_session_type(context, lib.ISCSI_SESSION_DISCOVERY)
        lib.iscsi_set_timeout(context, PATIENCE_SECONDS)
        lib.iscsi_set_noautoreconnect(context, 1)
        if lib.iscsi_connect_sync(context, portal.encode()) or lib.iscsi_login_sync(context):
            raise InitiatorError(ffi.string(lib.iscsi_get_error(context)).decode())
        found: dict[str, list[str]] = {}
        first = address = lib.iscsi_discovery_sync(context)
        while address != ffi.NULL:
            portals, each = [], address.portals
            while each != ffi.NULL:
                portals.append(ffi.string(lib.address_of(each)).decode())
                each = each.next
            found[ffi.string(lib.name_of(address)).decode()] = portals
            address = address.next
        if first != ffi.NULL:
            lib.iscsi_free_discovery_data(context, first)
        lib.iscsi_logout_sync(context)
        return found
    finally:
        lib.iscsi_destroy_context(context)
