"""SCSI commands between the gateways of one pool: one that waits has the owner answer some (SPC-4 §5.11.2.4).

Lives here and nowhere else: what a command is as an entry of the table of `target/volumes/relaying.py`, on either side.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from target.iscsi import normalize_name
from target.scsi import BackendError, Command, ITNexus, Result, Target, execute_relayed
from target.server.disks.units import Units
from target.volumes.manifest import Reading
from target.volumes.relaying import Answer, Asked, Asking, UnansweredError


async def perform(target: Target, units: Units, asked: Asked) -> Answer:
    """The owner's side: what was asked for, as the nexus of the other gateway's port."""
    nexus = ITNexus(normalize_name(asked.initiator_name), asked.isid, asked.port)
    result = await execute_relayed(target, nexus, units.get(asked.object_id), Command(0, asked.cdb, asked.data_out))
    return Answer(result.status, result.sense, result.data_in, result.transfer_bytes)


def relay_to_owner(reading: Reading) -> Callable[[int, ITNexus, Command], Awaitable[Result | None]]:
    """The side of who waits: a command's result; None: nobody serves the pool. BackendError."""
    asking = Asking(reading)

    async def relay(object_id: int, nexus: ITNexus, command: Command) -> Result | None:
        if not reading.owner_lives:
            return None
        asked = Asked(reading.owner, object_id, nexus.initiator_name, nexus.isid, nexus.target_port, command.cdb,
                      command.data_out)
        try:
            answer = await asking.ask(asked, lambda: reading.owner_lives and reading.owner == asked.owner)
        except OSError:
            return None
        except UnansweredError:
            raise BackendError("unanswered", "whoever serves the pool has not answered") from None
        return Result(answer.status, answer.sense, answer.data_in, answer.transfer_bytes)

    return relay
