"""A pool's configuration as a document, and what a document changes in the pool's store: one set of keys, all of it or nothing.

Objects and hosts stand there by name, so that a document of one pool fits another that holds volumes of the same names.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from target.errors import LunetteError
from target.models.configuration import FORMAT, Configuration, ConnectionEntry, HostEntry, HostSecrets, LimitEntry, ScheduleEntry
from target.volumes.catalog import (
    Catalog,
    Chap,
    Host,
    Thresholds,
    check_chap,
    check_initiator,
    connection_entry,
    host_entry,
)
from target.volumes.cron import check_cron
from target.volumes.entries import encoded
from target.volumes.gateway import ObjectInfo
from target.volumes.luns import EVERYONE, Connection
from target.volumes.rates import HOST, OBJECT, Rates, rates_entry
from target.volumes.retention import Keep
from target.volumes.schedule_store import schedule_entry
from target.volumes.schedules import Schedule, check_selector

Json = dict[str, Any]


@dataclass(slots=True)
class Plan:
    """What an import would do: keys of the store with their values, in words, and what it leaves out.

    `differs` says what is there already and would become another: that wants force.
    """

    changes: dict[str, Any] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    differs: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    unchanged: int = 0

    def keys(self) -> dict[str, bytes | None]:
        """The changes as the store takes them."""
        return encoded(self.changes)


def described(catalog: Catalog, schedules: list[Schedule], rates: Callable[[str, int], Rates | None], pool: str) -> Json:
    """The document of a pool; without secrets and tokens, and without what concerns this machine's portals."""
    def limits(kind: str, each: Any) -> Json | None:
        found = rates(kind, each.id)
        return None if found is None else {"name": each.name, **asdict(found)}

    objects = sorted(catalog.pool.objects(), key=lambda each: each.name)
    names = {each.id: each.name for each in objects}
    return {
        "format": FORMAT, "version": 1, "pool": pool,
        "hosts": [{"name": each.name, "initiators": list(each.initiators), "events": each.events,
                   "chap_name": each.chap.name if each.chap else None,
                   "mutual_name": each.chap.mutual_name if each.chap and each.chap.mutual_secret else None}
                  for each in catalog.hosts()],
        "connections": [{"object": names[each.object_id], "lun": each.lun,
                         "host": None if each.host_id == EVERYONE else catalog.host_name(each.host_id)}
                        for each in catalog.connections() if each.object_id in names],
        "volume_limits": [found for each in objects if (found := limits(OBJECT, each))],
        "host_limits": [found for each in catalog.hosts() if (found := limits(HOST, each))],
        "schedules": [{"name": each.name, "select": each.select, "cron": each.cron, "zone": each.zone, "keep": str(each.keep),
                       "group": each.group, "paused": each.paused} for each in schedules],
        "thresholds": asdict(catalog.thresholds),
    }


def secrets_of(catalog: Catalog) -> Json:
    """The hosts' secrets, by the hosts' names."""
    return {each.name: {"secret": each.chap.secret.decode(errors="surrogateescape"),
                        **({"mutual_secret": each.chap.mutual_secret.decode(errors="surrogateescape")}
                           if each.chap.mutual_secret else {})}
            for each in catalog.hosts() if each.chap is not None}


class Planning:
    """Makes a Plan of a document, beside what a pool has. Changes nothing."""

    def __init__(self, catalog: Catalog, schedules: list[Schedule], rates: Callable[[str, int], Rates | None], now_s: float,
                 *, partial: bool) -> None:
        self._catalog = catalog
        self._schedules = {each.name: each for each in schedules}
        self._rates = rates
        self._now_s = now_s
        self._partial = partial
        self._hosts = {each.name: each for each in catalog.hosts()}
        self._tables = {(each.host_id, each.lun): each for each in catalog.connections()}
        self.plan = Plan()

    def make(self, document: Configuration, given: Mapping[str, HostSecrets]) -> Plan:
        """LunetteError: not_found, invalid, exists."""
        for host in document.hosts:
            self._host(host, given.get(host.name))
        self._check_initiators()
        for connection in document.connections:
            self._connection(connection)
        for limit in document.volume_limits:
            self._volume_limit(limit)
        for limit in document.host_limits:
            self._limit(HOST, self._host_id(limit.name), limit)
        for schedule in document.schedules:
            self._schedule(schedule)
        self._thresholds(document)
        return self.plan

    # -- one entry each ------------------------------------------------------------------------------------------
    def _host(self, entry: HostEntry, given: HostSecrets | None) -> None:
        before = self._hosts.get(entry.name)
        number = before.id if before else max((each.id for each in self._hosts.values()), default=EVERYONE) + 1
        host = Host(number, entry.name, tuple(dict.fromkeys(map(check_initiator, entry.initiators))),
                    _chap(entry, given, before.chap if before else None), entry.events)
        self._note(f"host {entry.name}", before, host, host_entry(host))
        self._hosts[entry.name] = host

    def _check_initiators(self) -> None:
        owners: dict[str, str] = {}
        for host in self._hosts.values():
            for name in host.initiators:
                if owners.setdefault(name, host.name) != host.name:
                    raise LunetteError("exists", f"{name} would belong to the hosts {owners[name]} and {host.name}")

    def _connection(self, entry: ConnectionEntry) -> None:
        info = self._object(entry.object)
        if info is None:
            return
        wanted = Connection(self._host_id(entry.host), entry.lun, info.id)
        there = self._tables.get((wanted.host_id, wanted.lun))
        other = next((each for each in self._tables.values()
                      if (each.host_id, each.object_id) == (wanted.host_id, wanted.object_id)), None)
        what = f"{entry.object} as LUN {entry.lun} for {entry.host or 'everyone'}"
        if other is not None and other != wanted:
            self.plan.differs.append(f"{what} (now LUN {other.lun})")
            self.plan.changes.update(self._catalog.taking_away([other]))
            del self._tables[other.host_id, other.lun]
        self._note(what, there, wanted, connection_entry(wanted))
        self._tables[wanted.host_id, wanted.lun] = wanted

    def _volume_limit(self, entry: LimitEntry) -> None:
        info = self._object(entry.name)
        if info is not None:
            self._limit(OBJECT, info.id, entry)

    def _limit(self, kind: str, number: int, entry: LimitEntry) -> None:
        rates = Rates(entry.iops, entry.bandwidth_bytes, entry.burst_seconds)
        self._note(f"limits of {'host ' if kind == HOST else ''}{entry.name}", self._rates(kind, number), rates,
                   rates_entry(kind, number, rates))

    def _schedule(self, entry: ScheduleEntry) -> None:
        check_cron(entry.cron, entry.zone)
        before = self._schedules.get(entry.name)
        made = Schedule(before.id if before else secrets.token_hex(8), entry.name, check_selector(entry.select), entry.cron,
                        entry.zone, Keep.parse(entry.keep), entry.group, entry.paused,
                        before.done_s if before else self._now_s)
        self._note(f"schedule {entry.name}", before, made, schedule_entry(made))
        self._schedules[entry.name] = made

    def _thresholds(self, document: Configuration) -> None:
        if document.thresholds is not None:
            wanted = Thresholds(document.thresholds.soft_percent, document.thresholds.hard_percent)
            if wanted.soft_percent > wanted.hard_percent:
                raise LunetteError("invalid", "the soft threshold is above the hard one")
            before = self._catalog.thresholds
            self._note("thresholds", None if before == Thresholds() and wanted != before else before, wanted,
                       {"thresholds": asdict(wanted)})

    # -- what they have in common --------------------------------------------------------------------------------
    def _note(self, what: str, before: Any, after: Any, entry: Mapping[str, Any]) -> None:
        if before == after:
            self.plan.unchanged += 1
            return
        if before is not None:
            self.plan.differs.append(what)
        self.plan.said.append(f"{'change' if before is not None else 'add'} {what}")
        self.plan.changes.update(entry)

    def _object(self, name: str) -> ObjectInfo | None:
        info = self._catalog.pool.lookup(name)
        if info is None and not self._partial:
            raise LunetteError("not_found", f"there is no {name!r}; --partial leaves out what concerns what is not there")
        if info is None:
            self.plan.skipped.append(name)
        return info

    def _host_id(self, name: str | None) -> int:
        if name is None:
            return EVERYONE
        if name not in self._hosts:
            raise LunetteError("not_found", f"there is no host {name!r}, here or in the document")
        return self._hosts[name].id


def _chap(entry: HostEntry, given: HostSecrets | None, before: Chap | None) -> Chap | None:
    """CHAP of an entry: its secrets are given, or those that this host has already. LunetteError invalid."""
    if entry.chap_name is None:
        return None
    if given is not None:
        made = Chap(entry.chap_name, given.secret.encode(errors="surrogateescape"), entry.mutual_name or "",
                    (given.mutual_secret or "").encode(errors="surrogateescape"))
    elif before is not None:
        made = replace(before, name=entry.chap_name, mutual_name=entry.mutual_name or "",
                       mutual_secret=before.mutual_secret if entry.mutual_name else b"")
    else:
        raise LunetteError("invalid", f"host {entry.name} proves a secret, which is not in the document: --secrets says where "
                                      "the secrets are")
    if entry.mutual_name and not made.mutual_secret:
        raise LunetteError("invalid", f"the target proves a secret to host {entry.name}, which is not given")
    return check_chap(made)
