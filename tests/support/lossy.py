"""An initiator at ErrorRecoveryLevel 1 that loses and damages PDUs on purpose, and recovers (RFC 7143 §7, §11.16)."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from tests.support.wire import FINAL, NONE, READ, WRITE, Pdu, Wire, rw

DATA, STATUS, DATA_ACK, R_DATA = range(4)
REJECT, R2T, DATA_IN, RESPONSE, NOP_IN = 0x3F, 0x31, 0x25, 0x21, 0x20
SEGMENT = 1024


def damage(pdu: bytes) -> bytes:
    """The same PDU with its last byte, one of the data digest, changed."""
    return pdu[:-1] + bytes([pdu[-1] ^ 1])


@dataclass(slots=True)
class Command:
    """A READ (`data` is None) or a WRITE, and what has come for it."""

    itt: int
    cmd_sn: int
    lba: int
    blocks: int
    data: bytes | None
    bhs: bytes = b""
    pdus: dict[int, Pdu] = field(default_factory=dict)
    response: Pdu | None = None

    @property
    def whole(self) -> bool:
        """The response and all Data-In that its ExpDataSN speaks of are here."""
        if self.response is None:
            return False
        return self.data is not None or self.response.status != 0 or self.response.data_sn == len(self.pdus)


class Lossy:
    """Runs commands over a wire. `loss`: how likely a PDU is lost (from the target) or damaged (to it)."""

    def __init__(self, wire: Wire, rng: random.Random, loss: float, *, immediate_bytes: int, first_burst: int) -> None:
        self.wire, self.rng, self.loss = wire, rng, loss
        self.immediate_bytes, self.first_burst = immediate_bytes, first_burst
        self.open: dict[int, Command] = {}
        self.answered: dict[int, Command | None] = {}   # by StatSN, from exp_stat_sn on
        self.newest = wire.exp_stat_sn                   # the highest StatSN heard of, plus 1
        self.exp_cmd_sn = wire.cmd_sn
        self.lost = self.ended = 0

    # -- to the target -------------------------------------------------------------------------------------------------

    def _out(self, bhs: bytes, data: bytes) -> None:
        pdu = self.wire.pdu(bhs, data)
        hit = data and self.rng.random() < self.loss
        self.lost += bool(hit)
        self.wire.sock.sendall(damage(pdu) if hit else pdu)

    def start(self, lba: int, blocks: int, data: bytes | None = None) -> Command:
        self.wire.itt += 1
        command = Command(self.wire.itt, self.wire.cmd_sn, lba, blocks, data)
        self.wire.cmd_sn += 1
        self.open[command.itt] = command
        self._send(command)
        return command

    def _send(self, command: Command) -> None:
        length = 512 * command.blocks
        data = command.data
        first = min(self.first_burst, length) if data is not None else 0
        immediate = min(self.immediate_bytes, first)
        more = immediate < first
        flags = READ | FINAL if data is None else WRITE | (0 if more else FINAL)
        bhs = self.wire.command_bhs(rw(0x28 if data is None else 0x2A, command.lba, command.blocks), flags=flags, edtl=length,
                                    itt=command.itt, cmd_sn=command.cmd_sn)
        self._out(bhs, data[:immediate] if data else b"")
        if data and more:
            self._burst(command, NONE, immediate, first)

    def _burst(self, command: Command, ttt: int, begin: int, end: int) -> None:
        assert command.data is not None
        for sn, at in enumerate(range(begin, end, SEGMENT)):
            piece = command.data[at : min(at + SEGMENT, end)]
            self._out(self.wire.data_out_bhs(command.itt, ttt, sn, at, final=at + SEGMENT >= end), piece)

    # -- from the target -----------------------------------------------------------------------------------------------

    def step(self) -> None:
        """Take a PDU, or notice that none comes and ask for what is missing."""
        if self.wire.silent(0.03):
            self._ask()
            return
        pdu = self.wire.receive()
        if self.rng.random() < self.loss:
            self.lost += 1
            return
        self.exp_cmd_sn = max(self.exp_cmd_sn, pdu.exp_cmd_sn)
        self.newest = max(self.newest, pdu.stat_sn)
        command = self.open.get(pdu.itt)
        if pdu.opcode == DATA_IN and command is not None:
            self._data_in(command, pdu)
        elif pdu.opcode == R2T and command is not None:
            self._burst(command, pdu.ttt, pdu.offset, pdu.offset + pdu.residual)
        elif pdu.opcode == REJECT or (pdu.opcode in (RESPONSE, NOP_IN) and pdu.itt != NONE):
            self._numbered(command if pdu.opcode == RESPONSE else None, pdu)
        self._acknowledge()

    def _data_in(self, command: Command, pdu: Pdu) -> None:
        before = command.pdus.setdefault(pdu.data_sn, pdu)
        assert (before.offset, before.data) == (pdu.offset, pdu.data), "sent again, but not as it was"
        if pdu.flags & 0x40 and all(sn in command.pdus for sn in range(pdu.data_sn + 1)):
            self.wire.snack(DATA_ACK, NONE, pdu.ttt, pdu.data_sn + 1, 0)

    def _numbered(self, command: Command | None, pdu: Pdu) -> None:
        self.newest = max(self.newest, pdu.stat_sn + 1)
        if pdu.stat_sn < self.wire.exp_stat_sn or pdu.stat_sn in self.answered:
            return
        self.answered[pdu.stat_sn] = command
        if command is not None:
            assert command.response is None, "answered twice"
            command.response = pdu

    def _acknowledge(self) -> None:
        # A response is acknowledged when all before it are, and its data are here.
        while self.wire.exp_stat_sn in self.answered:
            command = self.answered[self.wire.exp_stat_sn]
            if command is not None:
                if not command.whole:
                    return
                self._finish(command)
            del self.answered[self.wire.exp_stat_sn]
            self.wire.exp_stat_sn += 1

    def _finish(self, command: Command) -> None:
        assert command.response is not None
        assert command.response.status == 0, command.response
        del self.open[command.itt]
        self.ended += 1

    def _ask(self) -> None:
        for command in list(self.open.values()):
            if command.response is None and command.cmd_sn >= self.exp_cmd_sn:
                self._send(command)                      # never received: a retry
            elif command.response is None:
                self.wire.snack(DATA, command.itt, NONE, 0, 0)
            elif not command.whole:
                missing = next(sn for sn in range(command.response.data_sn) if sn not in command.pdus)
                self.wire.snack(DATA, command.itt, NONE, missing, self.rng.choice((0, 1)))
        missing = next((sn for sn in range(self.wire.exp_stat_sn, self.newest) if sn not in self.answered), None)
        if missing is not None:
            self.wire.snack(STATUS, NONE, NONE, missing, self.rng.choice((0, 1)))
        else:
            self.wire.nop_out(itt=0x7000)                # its answer tells the StatSN and the ExpCmdSN of now
