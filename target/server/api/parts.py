"""What routes work on: the parts of a daemon that the API reads and changes, and what every change leaves behind."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from target.errors import LunetteError
from target.models.hints import named_objects
from target.server.api.audit import Audit, shown
from target.server.api.commands.management import Management
from target.server.api.commands.table import Outcome
from target.server.api.differences import Differences
from target.server.api.events import Events
from target.server.api.exports import Exports
from target.server.api.lasting import Lasting
from target.server.api.listing import Listing
from target.server.api.served import Served
from target.server.api.tokens import Tokens
from target.server.background.defrag import Defrag
from target.server.background.jobs import Job
from target.server.background.schedules import Schedules
from target.server.background.scrub import Scrub
from target.server.background.transfers import Transfers
from target.server.background.trim import Trim
from target.server.caller import CALLER, Identity
from target.server.iscsi.throttle import Throttle
from target.server.mirroring.mirroring import Mirroring

if TYPE_CHECKING:
    from target.server.api.metrics import Metrics


@dataclass(frozen=True, slots=True)
class Parts:
    """`metrics` makes them. `unready` says why nothing should be sent here now; empty: all is well. `prove` returns only
    if the pool is still ours.
    """

    served: Served
    management: Management
    listing: Listing
    schedules: Schedules
    mirroring: Mirroring
    tokens: Tokens
    scrub: Scrub
    trim: Trim
    defrag: Defrag
    differences: Differences
    metrics: Callable[[], Metrics]
    exports: Exports
    transfers: Transfers
    unready: Callable[[], str]
    prove: Callable[[], None]
    lasting: Lasting
    events: Events = field(default_factory=Events)
    audit: Audit = field(default_factory=Audit)
    known: list[Callable[[object], None]] = field(default_factory=list)     # told which connections are no strangers
    refusals: Throttle = field(default_factory=Throttle)

    def watch(self) -> None:
        """Tell of commands and jobs from now on."""
        self.management.table.told.append(self._told)
        self.served.jobs.changed = self._job
        self.served.jobs.caller = lambda: CALLER.get().name

    @contextlib.contextmanager
    def audited(self, identity: Identity, command: str, arguments: Mapping[str, Any]) -> Iterator[None]:
        """A change that is no command of the table, with its line in the trail."""
        began_s = time.monotonic()
        try:
            yield
        except LunetteError as error:
            self.audit.record(identity, command, arguments, error.code, str(error), time.monotonic() - began_s)
            raise
        self.audit.record(identity, command, arguments, "ok", "", time.monotonic() - began_s)
        self.events.publish(command, (), {"by": identity.name, **arguments})

    def _told(self, outcome: Outcome) -> None:
        error = outcome.error
        code = "ok" if error is None else error.code if isinstance(error, LunetteError) else "internal"
        arguments = self.audit.record(outcome.caller, outcome.command.name, shown(outcome.args), code,
                                      "" if error is None else str(error), outcome.seconds)
        if error is None:
            self.events.publish(outcome.command.name, named_objects(outcome.args),
                                {"by": outcome.caller.name, "arguments": arguments})

    def _job(self, job: Job) -> None:
        self.events.publish("job", job.names, job.as_json())
