"""Commands on hosts, and on the connections by which initiators see objects as LUNs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from target.errors import LunetteError
from target.models.hosts import HostChange, HostCreate, HostDelete, HostSet
from target.models.objects import Connect, Disconnect
from target.server.api import guard
from target.server.api.commands.subject import Subject
from target.server.command import Command, Json
from target.server.iscsi.nexus import NexusSession
from target.volumes.catalog import Chap, Host, check_initiator
from target.volumes.luns import EVERYONE, Connection
from target.volumes.rates import HOST


class HostCommands(Subject):
    """Who may log in, and what they see."""

    def commands(self) -> list[Command]:
        return [
            Command("connect", Connect, self.connect, answer="Made"),
            Command("disconnect", Disconnect, self.disconnect, answer="Made"),
            Command("host_create", HostCreate, self.host_create, "admin", answer="HostRow"),
            Command("host_change", HostChange, self.host_change, "admin", answer="HostRow"),
            Command("host_set", HostSet, self.host_set, "admin", answer="HostRow"),
            Command("host_delete", HostDelete, self.host_delete, "admin", answer="None"),
        ]

    async def connect(self, args: Connect) -> Json:
        info = self._catalog.find(args.name)
        host = args.host
        host_id = EVERYONE if host is None else self._catalog.host(host).id
        if host is None and not self._served.access.open_access:
            raise LunetteError("forbidden", "this daemon serves hosts only: --host says which (or serve with --open)")
        lun = args.lun
        if lun is not None and self._catalog.may_connect(info, host_id, lun) is None and not args.force:
            lun_map, added = self._served.access.lun_map, Connection(host_id, lun, info.id)
            guard.check_luns(self._served.table.losses(lambda each: lun_map(each.nexus.initiator_name, added=added)),
                             self._pool, f"--force makes LUN {lun} {info.name} for them")
        connection = await self._connect(info, host_id, lun)
        return {**self.describe(info), "lun": connection.lun, "url": self._served.access.url(connection.lun), "host": host or "*",
                "note": self.lineage.not_its_own(info)}

    async def disconnect(self, args: Disconnect) -> Json:
        info = self._catalog.find(args.name)
        host = args.host
        gone = self._catalog.connections_of(info.id)
        if host is not None:
            host_id = self._catalog.host(host).id
            gone = [each for each in gone if each.host_id == host_id]
        if not gone:
            raise LunetteError("not_found", f"{info.name} is not connected" + (f" to {host}" if host else ""))
        if not args.force:
            lun_map = self._served.access.lun_map
            guard.check_luns(self._served.table.losses(lambda each: lun_map(each.nexus.initiator_name, without=gone)),
                             self._pool, "--force takes it from them all the same")
        await self._catalog.disconnect(gone)
        self._served.table.refresh()
        return self.describe(info)

    async def host_create(self, args: HostCreate) -> Json:
        host = Host(0, args.name, tuple(args.initiators), _chap(args, args.initiators, None),
                    args.events)
        if any(each.name == host.name for each in self._catalog.hosts()):
            raise LunetteError("exists", f"there is a host {host.name!r} already")
        made = await self._catalog.save_host(host)
        self._served.table.refresh()
        return self.describe_host(made)

    async def host_change(self, args: HostChange) -> Json:
        before = self._catalog.host(args.name)
        removed = [check_initiator(each) for each in args.remove]
        for each in removed:
            if each not in before.initiators:
                raise LunetteError("not_found", f"{before.name} has no initiator {each!r}")
        initiators = [each for each in before.initiators if each not in removed]
        initiators += args.add
        chap = None if args.no_chap else _chap(args, args.add, before.chap)
        changed = Host(before.id, args.new_name or before.name, tuple(initiators), chap,
                       before.events if args.events is None else args.events)
        kept = {check_initiator(each) for each in initiators}
        leaving, joining = set(before.initiators) - kept, kept - set(before.initiators)
        if not args.force:
            guard.check_host(before, self._sessions_of(leaving))
            seen, opened = self._catalog.lun_map(before, open_access=self._served.access.open_access), self._served.table.losses
            guard.check_luns(opened(lambda each: seen if each.nexus.initiator_name in joining else each.luns),
                             self._pool, f"--force gives them the LUNs of {before.name}")
        made = await self._catalog.save_host(changed)
        self._end(self._sessions_of(leaving), f"its initiator was taken from host {before.name}")
        self._served.table.refresh()
        for session in self._sessions_of(joining):
            self._served.limits.settle(session)
        return self.describe_host(made)

    async def host_set(self, args: HostSet) -> Json:
        host = self._catalog.host(args.name)
        await self._set_limits(HOST, host.id, args)
        return self.describe_host(host)

    async def host_delete(self, args: HostDelete) -> None:
        """Its sessions end, so none goes on with LUNs that are not its own any more."""
        host = self._catalog.host(args.name)
        sessions = self._sessions_of(host.initiators)
        if not args.force:
            guard.check_host(host, sessions)
        await self._catalog.delete_host(host)
        await self._served.limits.forget_host(host.id)
        self._end(self._sessions_of(host.initiators), f"host {host.name} was deleted")
        self._served.table.refresh()

    def _sessions_of(self, initiators: Collection[str]) -> list[NexusSession]:
        return [each for each in self._served.table.sessions() if each.nexus.initiator_name in initiators]

    def _end(self, sessions: Iterable[NexusSession], why: str) -> None:
        for each in sessions:
            self._served.table.end(each, why)

    def describe_host(self, host: Host) -> Json:
        """A host as listings show it: never its secrets."""
        luns = []
        for connection in self._catalog.connections(host.id):
            info = self._pool.info(connection.object_id)
            luns.append({"lun": connection.lun, "name": None if info is None else info.name})
        return {"name": host.name, "initiators": list(host.initiators), "chap": host.chap.name if host.chap else None,
                "mutual_chap": bool(host.chap and host.chap.mutual_secret), "events": host.events,
                **self.limits(HOST, host.id), "luns": luns}


def _chap(args: HostCreate | HostChange, initiators: Sequence[str], before: Chap | None) -> Chap | None:
    """CHAP as the arguments change it; `secret` and `mutual_secret` come from a file or prompt of the client."""
    secret, mutual = args.secret, args.mutual_secret
    if before is None and secret is None:
        if mutual is not None:
            raise LunetteError("invalid", "mutual CHAP needs a secret of the initiator too")
        return None
    name = args.chap_name or (before.name if before else "")
    if not name:
        name = initiators[0] if initiators else args.name
    return Chap(name, secret.encode() if secret is not None else before.secret if before else b"",
                args.mutual_name or (before.mutual_name if before else "") or ("lunette" if mutual else ""),
                mutual.encode() if mutual is not None else before.mutual_secret if before else b"")
