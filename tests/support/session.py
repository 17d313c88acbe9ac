"""An initiator on real sockets, PDU by PDU: for what libiscsi cannot do, such as several connections a session."""

from __future__ import annotations

import socket
from typing import Any, TypeVar

from target.iscsi.framing import PduReader
from target.iscsi.pdu import LoginRequest, LoginResponse, NopIn, NopOut, Pdu, ScsiCommand, decode, encode
from target.iscsi.text import build_pairs
from tests.support.waiting import PATIENCE_SECONDS

P = TypeVar("P", bound=Pdu)
NOBODY = 0xFFFFFFFF


class Connection:
    """One logged-in connection. `login_response` is the target's last word of the login."""

    def __init__(self, port: int, target: str, *, name: str = "iqn.2026-11.test:mcs", isid: bytes = b"\x80MCS\0\1",
                 tsih: int = 0, cid: int = 0, cmd_sn: int = 1, **keys: str) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS)
        self.reader = PduReader(max_data_segment_bytes=1 << 20)
        pairs = {"InitiatorName": name, "TargetName": target, "MaxRecvDataSegmentLength": "262144", **keys}
        self.send(LoginRequest(transit=True, current_stage=1, next_stage=3, isid=isid, tsih=tsih, cid=cid, cmd_sn=cmd_sn,
                               data=build_pairs(pairs.items())))
        self.login_response = self.receive(LoginResponse)

    def send(self, pdu: Pdu) -> None:
        self.sock.sendall(encode(pdu))

    def receive(self, kind: type[P]) -> P:
        """The next PDU, which must be of this kind; others' pings are answered. EOFError when the target has closed."""
        while True:
            while (raw := self.reader.next_pdu()) is None:
                data = self.sock.recv(65536)
                if not data:
                    raise EOFError
                self.reader.feed(data)
            pdu = decode(raw)
            if isinstance(pdu, kind):
                return pdu
            assert isinstance(pdu, NopIn), pdu
            assert pdu.target_transfer_tag != NOBODY, pdu
            self.send(NopOut(immediate=True, target_transfer_tag=pdu.target_transfer_tag, lun=pdu.lun, cmd_sn=pdu.exp_cmd_sn))

    def closed(self) -> bool:
        """Wait until the target closes this connection."""
        try:
            while self.sock.recv(65536):
                pass
        except ConnectionError:
            pass
        return True

    def close(self) -> None:
        self.sock.close()


def write10(lba: int, data: bytes, tag: int, cmd_sn: int, **fields: Any) -> ScsiCommand:
    """WRITE (10) of 512-byte blocks with all its data immediate."""
    cdb = bytes((0x2A, 0)) + lba.to_bytes(4) + b"\0" + (len(data) // 512).to_bytes(2) + bytes(7)
    return ScsiCommand(write=True, initiator_task_tag=tag, cmd_sn=cmd_sn, cdb=cdb, data=data,
                       expected_data_transfer_length=len(data), **fields)


def read10(lba: int, blocks: int, tag: int, cmd_sn: int, **fields: Any) -> ScsiCommand:
    """READ (10) of 512-byte blocks."""
    cdb = bytes((0x28, 0)) + lba.to_bytes(4) + b"\0" + blocks.to_bytes(2) + bytes(7)
    return ScsiCommand(read=True, initiator_task_tag=tag, cmd_sn=cmd_sn, cdb=cdb,
                       expected_data_transfer_length=512 * blocks, **fields)
