"""The logical unit: identity, medium, modes, reservations, unit attentions of one volume or snapshot (SAM-5 §4.6)."""

from __future__ import annotations

import json
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from target.scsi import sense
from target.scsi.backend import BlockBackend
from target.scsi.copy.results import CopyResult, Results, RodResult
from target.scsi.mode_pages import ModePages
from target.scsi.model import SLOW_READS, SLOW_WRITES, Command, Gate, Identity, ITNexus, Limits, Result
from target.scsi.reservations.state import Reservations
from target.scsi.sense import Sense, SenseKey
from target.scsi.unit_attention import AttentionQueues, UnitAttention

STATE_VERSION = 1
THRESHOLD_SET_BYTES = 1 << 20


def threshold_exponent(block_bytes: int) -> int:
    """THRESHOLD EXPONENT: a threshold set is this power of two of logical blocks, 1 MiB (SBC-4 §6.6.7)."""
    return (THRESHOLD_SET_BYTES // block_bytes).bit_length() - 1


@dataclass(slots=True)
class Erasure:
    """A FORMAT UNIT or SANITIZE that runs: what a command is told meanwhile, how far it is in 1/65536."""

    asc: int
    sanitize: bool = False
    may_exit_failure: bool = False
    progress: int = 0


class UnitHooks:
    """What a logical unit asks of whoever serves it. Override what you serve; the defaults do nothing."""

    keeps_reservations = False      # all of them outlive the process, which another one may follow without a loss of power

    def gate_changed(self, unit: LogicalUnit, nexus: ITNexus, gate: Gate) -> None:
        """The native path's permission for this nexus changed. Called synchronously, from inside commands too."""

    def attention_raised(self, unit: LogicalUnit, nexus: ITNexus, code: int) -> None:
        """A unit attention condition (its additional sense code and qualifier) was queued for this nexus."""

    async def persist(self, unit: LogicalUnit, state: bytes) -> None:
        """Make `state` durable before returning (reservations with APTPL, saved mode pages). May raise BackendError."""

    async def abort_tasks(self, unit: LogicalUnit, nexus: ITNexus) -> None:
        """Abort every task of `nexus` on this unit except the calling one (PREEMPT AND ABORT, SPC-4 §5.13.11.5)."""

    async def quiesce(self, unit: LogicalUnit) -> None:
        """Wait until no command but the calling one reads or writes the medium; the unit's gate keeps new ones away."""

    async def freeze(self, unit: LogicalUnit) -> BlockBackend | None:
        """The unit's medium as it is now, for a point-in-time ROD token; None when that is not to be had."""
        return None

    async def thaw(self, unit: LogicalUnit, frozen: BlockBackend) -> None:
        """The token that needed `frozen` is gone."""

    async def background(self, work: Coroutine[Any, Any, None]) -> None:
        """Run the work of a command that is answered before it ends. It handles its own errors. Default: run it now."""
        await work

    async def relay(self, unit: LogicalUnit, nexus: ITNexus, command: Command) -> Result | None:
        """Have the gateway answer that serves the unit, where this one does not. None: there is none. May raise BackendError."""
        return None

    def initiator_name(self, name: str) -> str:
        """A name of a parameter list or an old state in the form that `ITNexus` has. ValueError: it is none."""
        return name

    def timestamp_ms(self) -> int:
        """Milliseconds since the epoch: REPORT TIMESTAMP, and the clock by which tokens expire."""
        return 0


class LogicalUnit:
    """One object served. Shared by every nexus and LUN number that maps it.

    The server reports what happens outside commands through the `*_changed`, `reset` and nexus methods, and learns
    of changes to the native path's permission through `hooks.gate_changed`.
    """

    def __init__(self, identity: Identity, backend: BlockBackend, *, hooks: UnitHooks | None = None,
                 limits: Limits | None = None, state: bytes = b"") -> None:
        """`state` is what `hooks.persist` was last given; ValueError if it is not that."""
        self.identity = identity
        self.backend = backend
        self.hooks = hooks or UnitHooks()
        self.limits = limits or Limits()
        self.mode = ModePages()
        self.reservations = Reservations(kept=self.hooks.keeps_reservations)
        self.attention = AttentionQueues(self.gate_check, self._attention_raised)
        self.copy_results: Results[CopyResult] = Results()
        self.rod_results: Results[RodResult] = Results()
        self.stopped = False
        self.erasure: Erasure | None = None
        self.sanitize_failed = False    # or was cut short: nothing but SANITIZE reaches the medium
        self.may_exit_failure = False   # the last SANITIZE had AUSE
        self.deferred: Sense | None = None   # how a FORMAT UNIT in the background failed, until someone is told
        self.absent = False             # stands for a LUN that this nexus does not have
        self.well_known = False         # stands for the REPORT LUNS well known unit
        self.identifying_information = b""
        self.explicit_states: dict[int, int] = {}   # target port group -> access state that an initiator set
        self.replica = False            # it is written elsewhere: nobody writes to it here ...
        self.standby = False            # ... and whoever reaches the other one, too, takes both for one: none of it is read
        self._below_threshold = False
        self._gates: dict[ITNexus, Gate] = {}
        self._not_ready: set[ITNexus] = set()
        if state:
            self._load(state)

    # -- the medium --------------------------------------------------------------------------------------------
    @property
    def block_bytes(self) -> int:
        return self.backend.block_bytes

    @property
    def size_blocks(self) -> int:
        return self.backend.size_bytes // self.backend.block_bytes

    @property
    def write_protected(self) -> bool:
        return self.read_only or self.mode.software_write_protect

    @property
    def read_only(self) -> bool:
        """Whether no initiator can change that it is not written: a snapshot, or a replica."""
        return self.backend.read_only or self.replica

    @property
    def shown_protected(self) -> bool:
        """What MODE SENSE says. A path in standby is one to a disk that is written elsewhere: hosts ask once, and keep the path
        read-only for good.
        """
        return self.write_protected and not (self.standby and not self.backend.read_only
                                             and not self.mode.software_write_protect)

    def protection_sense(self) -> Sense:
        """Why a write is refused: the medium is read-only, or an initiator set SWP."""
        asc = sense.WRITE_PROTECTED if self.read_only else sense.SOFTWARE_WRITE_PROTECTED
        return Sense(SenseKey.DATA_PROTECT, asc)

    # -- the native path's permission --------------------------------------------------------------------------
    def gate(self, nexus: ITNexus) -> Gate:
        """Why the native path may not decide alone for this nexus, now."""
        gate = Gate.OPEN
        if self.attention.pending(nexus):
            gate |= Gate.ATTENTION
        if not self.reservations.may_read(nexus):
            gate |= Gate.RESERVED
        if not self.reservations.may_write(nexus):
            gate |= Gate.RESERVED_WRITES
        if self.write_protected:
            gate |= Gate.WRITE_PROTECTED
        if not self.mode.write_cache_enabled:
            gate |= Gate.WRITE_THROUGH
        if self.stopped or self.erasure is not None or self.sanitize_failed or nexus in self._not_ready:
            gate |= Gate.NOT_READY
        if self.mode.descriptor_sense:
            gate |= Gate.DESCRIPTOR
        return gate

    def needs_slow_path(self, nexus: ITNexus, write: bool = True) -> bool:
        """Whether READ (or, with `write`, WRITE) of this nexus must come through `execute`."""
        return bool(self.gate(nexus) & (SLOW_WRITES if write else SLOW_READS))

    def gate_check(self, nexus: ITNexus | None = None) -> None:
        """Tell the server about every nexus (or one) whose gate is no longer what it was last told."""
        for each in self.attention.nexuses() if nexus is None else [nexus]:
            gate = self.gate(each)
            if self._gates.get(each) != gate:
                self._gates[each] = gate
                self.hooks.gate_changed(self, each, gate)

    # -- nexuses -----------------------------------------------------------------------------------------------
    def nexus_opened(self, nexus: ITNexus, condition: UnitAttention | None = UnitAttention.POWER_ON) -> None:
        """A session of this nexus can reach the unit; it is told `condition` first."""
        self.attention.open(nexus)
        if condition is not None:
            self.attention.raise_for(nexus, condition)
        self.gate_check(nexus)

    def nexus_closed(self, nexus: ITNexus) -> None:
        """I_T nexus loss (SAM-5 §6.3.4): SPC-2 reservations and prevent states go, persistent reservations stay."""
        self.attention.close(nexus)
        self._gates.pop(nexus, None)
        self._not_ready.discard(nexus)
        self.copy_results.drop(nexus)
        self.rod_results.drop(nexus)
        if self.reservations.release_legacy(nexus):
            self.gate_check()

    def set_ready(self, nexus: ITNexus, ready: bool) -> None:
        """Whether the nexus's target port group is in a state that allows access to the medium."""
        (self._not_ready.discard if ready else self._not_ready.add)(nexus)
        self.gate_check(nexus)

    # -- events ------------------------------------------------------------------------------------------------
    def _attention_raised(self, nexus: ITNexus, condition: UnitAttention) -> None:
        self.hooks.attention_raised(self, nexus, condition)

    def raise_attention(self, condition: UnitAttention, but: ITNexus | None = None) -> None:
        self.attention.raise_for_all(condition, but)

    def capacity_changed(self) -> None:
        """What READ CAPACITY says is no longer what it was: the size, or the physical block."""
        self.raise_attention(UnitAttention.CAPACITY_CHANGED)

    def inquiry_changed(self) -> None:
        """INQUIRY data (read-only, the device identification page) is no longer what it was."""
        self.raise_attention(UnitAttention.INQUIRY_CHANGED)
        self.gate_check()

    def medium_changed(self) -> None:
        """The contents were replaced under the initiator (revert)."""
        self.raise_attention(UnitAttention.MEDIUM_CHANGED)

    def check_space(self) -> None:
        """Raise the soft threshold's unit attention when the available space has fallen to it (SBC-4 §4.7.3.8).

        The server calls this whenever the pool's space changed noticeably; it is told once until space is back.
        """
        sets = self.mode.threshold_sets
        below = sets is not None and self.backend.space().available_bytes <= sets * THRESHOLD_SET_BYTES
        if below and not self._below_threshold:
            self.threshold_reached()
        self._below_threshold = below

    def threshold_reached(self) -> None:
        """A thin provisioning soft threshold of the pool was crossed."""
        self.raise_attention(UnitAttention.THRESHOLD_REACHED)

    def reset(self, condition: UnitAttention = UnitAttention.BUS_DEVICE_RESET) -> None:
        """Logical unit reset (SAM-5 §6.3.3). The server aborts the tasks; the rest of its effects are here."""
        self.reservations.release_legacy(None)
        self.mode.reset()
        self.stopped = False
        self.raise_attention(condition)
        self.gate_check()

    def erasure_began(self, erasure: Erasure) -> None:
        """From now on the medium is not accessible."""
        self.erasure = erasure
        if erasure.sanitize:
            self.sanitize_failed = True
            self.may_exit_failure = erasure.may_exit_failure
        self.gate_check()

    def erasure_ended(self, failed: bool) -> None:
        """The medium is accessible again, unless a sanitize failed."""
        if self.erasure is not None and self.erasure.sanitize:
            self.sanitize_failed = failed
        self.erasure = None
        self.gate_check()

    def erasure_sense(self) -> Sense | None:
        """Why the medium is not accessible: an erasure that runs, a sanitize that failed."""
        if self.erasure is not None:
            return Sense(SenseKey.NOT_READY, self.erasure.asc, progress=self.erasure.progress)
        return Sense(SenseKey.MEDIUM_ERROR, sense.SANITIZE_FAILED) if self.sanitize_failed else None

    # -- what outlives the process -----------------------------------------------------------------------------
    def state(self) -> bytes:
        """Registrations and reservation with APTPL, saved mode pages, identifying information, a sanitize not ended."""
        document: dict[str, Any] = {"version": STATE_VERSION, "mode": self.mode.saved(),
                                    "reservations": self.reservations.saved(),
                                    "identifying": self.identifying_information.hex()}
        if self.sanitize_failed:
            document["sanitize"] = {"may_exit_failure": self.may_exit_failure}
        return json.dumps(document, separators=(",", ":"), sort_keys=True).encode()

    def _load(self, state: bytes) -> None:
        try:
            document = json.loads(state)
            if document["version"] != STATE_VERSION:
                raise ValueError(f"logical unit state of version {document['version']!r}")
            self.mode.load(document["mode"])
            self.reservations.load(document["reservations"], self.hooks.initiator_name)
            self.identifying_information = bytes.fromhex(document["identifying"])
            if "sanitize" in document:
                self.sanitize_failed = True
                self.may_exit_failure = bool(document["sanitize"]["may_exit_failure"])
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a logical unit's state: {error!r}") from error

    def follow(self, state: bytes) -> None:
        """Another gateway, which serves the unit, keeps this state for it now. ValueError."""
        self.mode, self.reservations = ModePages(), Reservations(kept=self.hooks.keeps_reservations)
        self.identifying_information, self.sanitize_failed = b"", False
        if state:
            self._load(state)
        self.gate_check()

    async def persist(self) -> None:
        """Give the state to the server to keep; returns when it is durable."""
        await self.hooks.persist(self, self.state())
