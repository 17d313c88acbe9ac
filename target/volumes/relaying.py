"""Commands that a gateway which waits hands to its pool's owner, and their answers (docs/ceph.md, Standby).

Two kinds of entries of the manifest's table: `asked/NUMBER` and `answered/NUMBER`. Who answers is the owner that was asked, or
nobody: it can write there as long as it is the owner, and what it has done it tells before it answers (`telling.py`). It does
nothing twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

log = logging.getLogger("lunette.relaying")

ASKED, ANSWERED = "asked/", "answered/"
POLL_SECONDS = 0.1          # how often who has asked looks for the answer
EAGER_SECONDS = 0.5         # how often the owner looks while a gateway waits ...
LOOK_SECONDS = 2.0          # ... and while none does
ANSWER_SECONDS = 20.0       # initiators give up after 30 at the earliest
KEPT_SECONDS = 60.0         # an answer that nobody has taken; longer than anybody waits for it
ISID_BYTES = 6
CDB_BYTES_MAX = 260
PARAMETERS_MAX = 65536
NAME_MAX = 223              # RFC 7143 §4.2.7.2


class Table(Protocol):
    """core.ceph.Table, for who asks. Calls wait. OSError."""

    def apply(self, changes: Mapping[str, bytes | None]) -> None: ...
    def get(self, key: str) -> bytes | None: ...


class OwnersTable(Table, Protocol):
    """The same for who answers."""

    def under(self, prefix: str) -> dict[str, bytes]: ...


class UnansweredError(Exception):
    """The owner was asked, and whether it has done it is not known."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A command for an object, as it came to `port` of another gateway. `owner` is who is asked."""

    owner: str
    object_id: int
    initiator_name: str
    isid: bytes
    port: int
    cdb: bytes
    data_out: bytes

    def pack(self) -> bytes:
        return json.dumps({"owner": self.owner, "object": self.object_id, "initiator": self.initiator_name,
                           "isid": self.isid.hex(), "port": self.port, "cdb": self.cdb.hex(),
                           "data_out": self.data_out.hex()}).encode()

    @classmethod
    def unpack(cls, raw: bytes) -> Asked:
        """ValueError: it is none."""
        try:
            document = json.loads(raw)
            asked = cls(str(document["owner"]), int(document["object"]), str(document["initiator"]),
                        bytes.fromhex(document["isid"]), int(document["port"]), bytes.fromhex(document["cdb"]),
                        bytes.fromhex(document["data_out"]))
        except (KeyError, TypeError) as error:
            raise ValueError(f"no command that was asked for: {error!r}") from None
        if (len(asked.isid) != ISID_BYTES or not 1 <= len(asked.cdb) <= CDB_BYTES_MAX or len(asked.data_out) > PARAMETERS_MAX
                or not 1 <= len(asked.initiator_name) <= NAME_MAX or not 1 <= asked.port <= 0xFFFF):
            raise ValueError("a command that was asked for has a field that is too long, or none")
        return asked


@dataclass(frozen=True, slots=True)
class Answer:
    """As target.scsi's Result."""

    status: int
    sense: bytes
    data_in: bytes
    transfer_bytes: int

    def pack(self) -> bytes:
        return json.dumps({"status": self.status, "sense": self.sense.hex(), "data_in": self.data_in.hex(),
                           "transfer_bytes": self.transfer_bytes}).encode()

    @classmethod
    def unpack(cls, raw: bytes) -> Answer:
        """ValueError: it is none."""
        try:
            document = json.loads(raw)
            return cls(int(document["status"]), bytes.fromhex(document["sense"]), bytes.fromhex(document["data_in"]),
                       int(document["transfer_bytes"]))
        except (KeyError, TypeError) as error:
            raise ValueError(f"no answer: {error!r}") from None


class Asking:
    """The half of a gateway that waits."""

    def __init__(self, table: Table, clock: Callable[[], float] = time.monotonic) -> None:
        self._table = table
        self._clock = clock
        self._gateway = os.urandom(8).hex()
        self._numbers = itertools.count(1)

    async def ask(self, asked: Asked, lives: Callable[[], bool]) -> Answer:
        """What the owner answers. `lives`: is it there still?

        OSError: it could not be asked, so nothing was done; UnansweredError.
        """
        number = f"{self._gateway}.{next(self._numbers):010d}"
        await asyncio.to_thread(self._table.apply, {ASKED + number: asked.pack()})
        until_s = self._clock() + ANSWER_SECONDS
        try:
            while True:
                raw = await asyncio.to_thread(self._table.get, ANSWERED + number)
                if raw is not None:
                    return Answer.unpack(raw)
                if not lives() or self._clock() > until_s:
                    raise UnansweredError
                await asyncio.sleep(POLL_SECONDS)
        except (OSError, ValueError):
            raise UnansweredError from None
        finally:
            await asyncio.shield(asyncio.to_thread(self._forget, number))

    def _forget(self, number: str) -> None:
        with contextlib.suppress(OSError):      # the owner does, if the cluster is full
            self._table.apply({ASKED + number: None, ANSWERED + number: None})


class Answering:
    """The owner's half, from `start` to `stop`."""

    def __init__(self, table: OwnersTable, owner: str, perform: Callable[[Asked], Awaitable[Answer]],
                 waited_for: Callable[[], bool], clock: Callable[[], float] = time.monotonic) -> None:
        """`waited_for`: does any gateway wait for this one?"""
        self._table = table
        self._owner = owner
        self._perform = perform
        self._waited_for = waited_for
        self._clock = clock
        self._done: dict[str, tuple[Answer, float]] = {}        # number -> what was answered, since when
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """What others have left there goes."""
        with contextlib.suppress(OSError):
            left = await asyncio.to_thread(self._table.under, ANSWERED)
            await self._apply(dict.fromkeys(left))
        self._task = asyncio.create_task(self._run(), name="answering")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _run(self) -> None:
        while True:
            try:
                await self.look()
            except OSError as error:
                log.warning("commands that came to gateways which wait cannot be answered: %s", error.strerror)
            await asyncio.sleep(EAGER_SECONDS if self._waited_for() else LOOK_SECONDS)

    async def look(self) -> None:
        """Answer all that is asked now, one after the other. OSError."""
        for key, raw in sorted((await asyncio.to_thread(self._table.under, ASKED)).items()):
            number = key.removeprefix(ASKED)
            if number not in self._done:
                asked = self._mine(key, raw)
                if asked is None:
                    await self._apply({key: None})
                    continue
                self._done[number] = await self._perform(asked), self._clock()
            await self._apply({key: None, ANSWERED + number: self._done[number][0].pack()})
        old = [number for number, (_, since_s) in self._done.items() if self._clock() - since_s > KEPT_SECONDS]
        await self._apply({ANSWERED + number: None for number in old})
        for number in old:
            del self._done[number]

    def _mine(self, key: str, raw: bytes) -> Asked | None:
        """None: another owner was asked, or it cannot be read."""
        try:
            asked = Asked.unpack(raw)
        except ValueError as error:
            log.warning("%s: %s", key, error)
            return None
        return asked if asked.owner == self._owner else None

    async def _apply(self, changes: Mapping[str, bytes | None]) -> None:
        if changes:
            await asyncio.to_thread(self._table.apply, changes)
