"""All subjects together: the table that the API runs, and the parts of it that listings and schedules ask."""

from __future__ import annotations

from collections.abc import Callable

from target.server.api.commands.hosts import HostCommands
from target.server.api.commands.objects import ObjectCommands
from target.server.api.commands.pool import PoolCommands
from target.server.api.commands.repositories import RepositoryCommands
from target.server.api.commands.table import Commands
from target.server.api.commands.target import TargetCommands
from target.server.api.served import Served
from target.volumes.lineage import Lineage


class Management:
    """One daemon's commands. What others add to `table` runs like these."""

    def __init__(self, served: Served, enlarge: Callable[[int], int]) -> None:
        """`enlarge` as PoolCommands wants it."""
        self.lineage = Lineage(served.pool)
        self.table = Commands(lambda name: served.pool.lookup(name) is not None)
        self.objects = ObjectCommands(served, self.lineage, self.table.forgetting)
        self.hosts = HostCommands(served, self.lineage)
        self.target = TargetCommands(served, self.lineage)
        self.pool = PoolCommands(served, self.lineage, enlarge)
        self.repositories = RepositoryCommands(served, self.lineage)
        for subject in (self.objects, self.hosts, self.target, self.pool, self.repositories):
            self.table.add(*subject.commands())
