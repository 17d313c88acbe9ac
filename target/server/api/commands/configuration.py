"""Commands that write the pool's configuration into a document, and take one over: in one frame of the journal, or not at all."""

from __future__ import annotations

from collections.abc import Iterable

from target.errors import LunetteError
from target.models.configuration import ConfigurationExport, ConfigurationImport
from target.server.api import guard
from target.server.api.commands.subject import Subject
from target.server.api.served import Served
from target.server.background.schedules import Schedules
from target.server.caller import CALLER
from target.server.command import Command, Json
from target.server.iscsi.nexus import NexusSession
from target.volumes.catalog import Catalog
from target.volumes.configuration import Plan, Planning, described, secrets_of
from target.volumes.gateway import PoolError, pool_error
from target.volumes.lineage import Lineage

SHOWN = 5


class ConfigurationCommands(Subject):
    """The configuration as a whole."""

    def __init__(self, served: Served, lineage: Lineage, schedules: Schedules) -> None:
        super().__init__(served, lineage)
        self._schedules = schedules

    def commands(self) -> list[Command]:
        return [
            Command("config_export", ConfigurationExport, self.export, "admin", answer="ConfigurationDocument"),
            Command("config_import", ConfigurationImport, self.import_, "admin", answer="Imported"),
        ]

    async def export(self, args: ConfigurationExport) -> Json:
        if args.secrets and not CALLER.get().local:
            raise LunetteError("forbidden", "secrets are given to who comes by the Unix socket only")
        document = described(self._catalog, self._schedules.store.all(), self._served.limits.rates, self._pool.pool.name)
        return {"configuration": document, "secrets": secrets_of(self._catalog) if args.secrets else None}

    async def import_(self, args: ConfigurationImport) -> Json:
        async with self._schedules.changing():
            plan = Planning(self._catalog, self._schedules.store.all(), self._served.limits.rates,
                            self._schedules.clock.wall_s(), partial=args.partial).make(args.configuration, args.secrets)
            changes = plan.keys()
            after = Catalog(self._pool)
            after.adopt(changes)
            leaving = self._leaving(after)
            if not args.force:
                self._check(plan, after, leaving)
            if changes and not args.dry_run:
                await self._take_over(changes, leaving)
        return {"changes": plan.said, "unchanged": plan.unchanged, "skipped": plan.skipped, "dry_run": args.dry_run}

    def _check(self, plan: Plan, after: Catalog, leaving: Iterable[NexusSession]) -> None:
        """LunetteError needs_force, in_use: what would not only be added."""
        if plan.differs:
            more = f" and {len(plan.differs) - SHOWN} more" if len(plan.differs) > SHOWN else ""
            raise LunetteError("needs_force", f"it is otherwise here: {', '.join(plan.differs[:SHOWN])}{more}; --force makes it "
                                              "as the document says")
        who = list(leaving)
        if who:
            raise LunetteError("in_use", f"{guard.who(who)} would lose their host; --force ends these sessions")
        open_access = self._served.access.open_access
        guard.check_luns(self._served.table.losses(
            lambda each: after.lun_map(after.host_of(each.nexus.initiator_name), open_access=open_access)),
            self._pool, "--force makes their LUNs as the document says")

    def _leaving(self, after: Catalog) -> list[NexusSession]:
        """Sessions of initiators that have a host now and would have none, or another."""
        def host_id(catalog: Catalog, session: NexusSession) -> int | None:
            host = catalog.host_of(session.nexus.initiator_name)
            return None if host is None else host.id

        return [each for each in self._served.table.sessions()
                if host_id(self._catalog, each) not in (None, host_id(after, each))]

    async def _take_over(self, changes: dict[str, bytes | None], leaving: Iterable[NexusSession]) -> None:
        kept = self._pool.kv()
        before = {key: kept.get(key) for key in changes}
        self._adopt(changes)        # at once, so that no other command gives the same numbers meanwhile
        try:
            await self._pool.call("kv", changes=changes)
        except PoolError as error:
            self._adopt(before)
            raise pool_error(error.code, "keep the configuration") from None
        for session in leaving:
            self._served.table.end(session, "its host was changed by an import")
        for session in self._served.table.sessions():
            self._served.limits.settle(session)
        self._served.monitor.look()

    def _adopt(self, changes: dict[str, bytes | None]) -> None:
        self._catalog.adopt(changes)
        self._schedules.store.adopt(changes)
        self._served.limits.adopt(changes)
        self._served.table.refresh()
