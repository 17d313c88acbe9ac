"""Names, hosts and connections: what the pool's key-value store says about who sees which object under which LUN.

Keys of the store, all values JSON: `host/ID`, `connection/HOST_ID/LUN`, `freed_lun/HOST_ID/LUN` (a number that rises with each:
when it became free; LUNs below 256), `redirect/HOST_ID`, `group/TAG` (access state), `thresholds` (of the pool's use),
`unit/OBJECT_ID` (opaque state of a logical unit), `renaming/OBJECT_ID` (old and new name). Objects and hosts are referred to by
id, so that renaming either touches nothing else. HOST_ID 0 is everyone. `next_lun/HOST_ID` of older pools says nothing any more.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import logging
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from target.config import DEFAULT_PORT, plain_address
from target.errors import LunetteError
from target.iscsi.names import normalize_name
from target.iscsi.text import TextError
from target.models.forms import MAX_LABEL, MAX_NAME, MAX_SNAPSHOT_NAME
from target.volumes.entries import Entries, Kind
from target.volumes.gateway import AsyncPool, ObjectInfo
from target.volumes.luns import EVERYONE, MAX_LUN, PERIPHERAL_LUNS, Connection, LunTables

log = logging.getLogger("lunette.catalog")

EVERYONE_NAME = "*"
LAST = 1 << 62      # in the order of free LUNs: what a crash freed has no number yet
MAX_LABEL_BYTES = 160
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+-]*")
# RFC 7143 §4.2.7: iqn. with the month its domain was owned and the domain, eui. and naa. with 8 or 16 bytes.
_LABEL = r"[a-z0-9](?:[a-z0-9_-]*[a-z0-9])?"
_INITIATOR = re.compile(rf"(?:iqn\.\d{{4}}-(?:0[1-9]|1[0-2])\.{_LABEL}(?:\.{_LABEL})*(?::[^\s,]+)?|eui\.[0-9a-f]{{16}}|"
                        r"naa\.(?:[0-9a-f]{16}){1,2})")
_ADDRESS = re.compile(rf"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<name>{_LABEL}(?:\.{_LABEL})*))(?::(?P<port>\d{{1,5}}))?"
                      r"(?:,(?P<tag>\d{1,5}))?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Chap:
    """One host's CHAP: it proves `secret` under `name`; the target proves `mutual_secret` under `mutual_name` if set."""

    name: str
    secret: bytes = field(repr=False)
    mutual_name: str = ""
    mutual_secret: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Host:
    """A name for initiators. Its credentials never leave this process."""

    id: int
    name: str
    initiators: tuple[str, ...]
    chap: Chap | None = field(default=None, repr=False)
    events: bool = False    # asked for asynchronous SCSI events


@dataclass(frozen=True, slots=True)
class Redirect:
    """Where the logins of one host (or of EVERYONE) are sent: `address` as in TargetAddress."""

    host_id: int
    address: str
    permanent: bool = False


@dataclass(frozen=True, slots=True)
class Thresholds:
    """How full the pool may become, in percent of its size, before initiators and logs are told."""

    soft_percent: int = 80
    hard_percent: int = 95


def check_volume_name(name: str, what: str = "name", most: int = MAX_NAME) -> str:
    """A volume's or clone's name as given, or LunetteError invalid; a snapshot's label, by other words."""
    if not isinstance(name, str) or not _WORD.fullmatch(name):
        raise LunetteError("invalid", f"{name!r} is not a {what}: letters, digits and . _ : + - only, at most {most}, "
                                      "beginning with a letter or digit")
    if len(name) > most:
        raise LunetteError("invalid", f"{name!r} is too long: a {what} has at most {most} characters, not {len(name)}")
    return name


def check_snapshot_name(name: str) -> tuple[str, str]:
    """`NAME@LABEL` as (NAME, LABEL), or LunetteError invalid."""
    volume, at, label = name.partition("@") if isinstance(name, str) else ("", "", "")
    if not at:
        raise LunetteError("invalid", f"{name!r} is not a snapshot's name: NAME@LABEL")
    check_volume_name(volume)
    check_volume_name(label, "label", MAX_LABEL)
    return volume, label


def check_initiator(name: str) -> str:
    """An iSCSI name in its normal form, as logins are looked up by it, or LunetteError invalid."""
    try:
        normal = normalize_name(name) if isinstance(name, str) else ""
    except TextError as error:
        raise LunetteError("invalid", f"{name!a} is not an initiator's name: {error}") from None
    if not _INITIATOR.fullmatch(normal):
        raise LunetteError("invalid", f"{name!a} is not an initiator's name: iqn.YYYY-MM.DOMAIN:..., eui. or naa.")
    return normal


def parse_address(address: str) -> tuple[str, int]:
    """Where a redirect points, `HOST[:PORT][,TAG]` with IPv6 in brackets (RFC 7143 §13.8), as host and port.

    The host is in the one form that it can be compared in. LunetteError: invalid.
    """
    match = _ADDRESS.fullmatch(address) if isinstance(address, str) and len(address) <= 255 else None
    try:
        if match is None or not 0 < int(match["port"] or 1) < 65536 or not 0 <= int(match["tag"] or 0) < 65536:
            raise ValueError
        host = (match["name"] or "").lower()
        if match["six"] is not None:
            host = plain_address(str(ipaddress.IPv6Address(match["six"])))
        elif re.fullmatch(r"[0-9.]+", host):
            ipaddress.IPv4Address(host)
    except ValueError:
        raise LunetteError("invalid", f"{address!r} is not an address: HOST[:PORT][,TAG], with IPv6 in brackets") from None
    return host, int(match["port"] or DEFAULT_PORT)


def check_chap(chap: Chap) -> Chap:
    """Secrets of a usable length, different in the two directions (RFC 7143 §12.1.3), or LunetteError invalid."""
    for secret in (chap.secret, chap.mutual_secret or chap.secret):
        if not 12 <= len(secret) <= 255:
            raise LunetteError("invalid", "a CHAP secret has 12 to 255 bytes")
    if chap.mutual_secret and chap.mutual_secret == chap.secret:
        raise LunetteError("invalid", "the secrets of the two directions must differ")
    if not 0 < len(chap.name.encode()) <= 255 or len(chap.mutual_name.encode()) > 255:
        raise LunetteError("invalid", "a CHAP name has 1 to 255 bytes")
    return chap


def names_settled(hosts: dict[int, Host]) -> dict[int, Host]:
    """Stored hosts with their initiators in normal form, each at one host; what that takes from a host is logged.

    An earlier version stored names in other forms. Two that are one name now go to the host that asks for a secret, so that
    none is evaded, or else to the older one. What is no name could not log in either; it stays off the list.
    """
    owners: dict[str, int] = {}
    kept: dict[int, list[str]] = {host_id: [] for host_id in hosts}
    for host in sorted(hosts.values(), key=lambda each: (each.chap is None, each.id)):
        for stored in host.initiators:
            try:
                name = normalize_name(stored)
            except TextError as error:
                log.warning("host %s: %a cannot log in: %s", host.name, stored, error)
                continue
            owner = owners.setdefault(name, host.id)
            if owner != host.id:
                log.warning("host %s: %a is a form of a name of host %s, and belongs to that one", host.name, stored,
                            hosts[owner].name)
            elif name not in kept[owner]:
                kept[owner].append(name)
    return {host_id: replace(host, initiators=tuple(kept[host_id])) for host_id, host in hosts.items()}


def read_labels(info: ObjectInfo) -> dict[str, str]:
    """The labels kept in an object's properties."""
    try:
        document = json.loads(info.props) if info.props else {}
        return {str(key): str(value) for key, value in document.get("labels", {}).items()}
    except (ValueError, AttributeError):
        return {}


def write_labels(labels: dict[str, str]) -> bytes:
    """Properties that hold `labels`, or LunetteError limit."""
    if not labels:
        return b""
    props = json.dumps({"labels": labels}, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode()
    if len(props) > MAX_LABEL_BYTES:
        raise LunetteError("limit", f"the labels need {len(props)} bytes; an object keeps {MAX_LABEL_BYTES}")
    return props


class Catalog:
    """Configuration in memory, written through to the pool: every change is durable when its coroutine returns."""

    def __init__(self, pool: AsyncPool) -> None:
        self.pool = pool
        self._hosts: dict[int, Host] = {}
        self._luns = LunTables()
        self._freed = 0     # the last number in a `freed_lun`
        self._states: dict[int, bytes] = {}
        self._renaming: dict[int, tuple[str, str]] = {}
        self._redirects: dict[int, Redirect] = {}
        self._group_states: dict[int, str] = {}
        self._thresholds = Thresholds()
        self._became_free: list[tuple[int, int, int]] = []      # order, host, LUN: read, and not yet put into order
        self._entries = Entries(pool, "configuration", {
            "host": Kind(self._load_host, lambda rest: self._hosts.pop(int(rest), None), secret=True),
            "connection": Kind(self._load_connection, self._drop_connection),
            "freed_lun": Kind(self._load_freed),
            "redirect": Kind(self._load_redirect, lambda rest: self._redirects.pop(int(rest), None)),
            "thresholds": Kind(self._load_thresholds, self._drop_thresholds),
            "group": Kind(self._load_group),
            "renaming": Kind(self._load_renaming),
            "unit": Kind(self._load_unit, opaque=True),
        })
        self._entries.load()
        self._settle()

    # -- objects -----------------------------------------------------------------------------------------------
    def find(self, name: str) -> ObjectInfo:
        """The object of that name, or LunetteError not_found."""
        info = self.pool.lookup(name) if isinstance(name, str) and len(name) <= MAX_SNAPSHOT_NAME else None
        if info is None:
            raise LunetteError("not_found", f"there is no {name!r}")
        return info

    # -- hosts -------------------------------------------------------------------------------------------------
    def hosts(self) -> list[Host]:
        return sorted(self._hosts.values(), key=lambda host: host.name)

    def host(self, name: str) -> Host:
        """The host of that name, or LunetteError not_found."""
        found = next((host for host in self._hosts.values() if host.name == name), None)
        if found is None:
            raise LunetteError("not_found", f"there is no host {name!r}")
        return found

    def host_name(self, host_id: int) -> str:
        return EVERYONE_NAME if host_id == EVERYONE else self._hosts[host_id].name

    def host_of(self, initiator_name: str) -> Host | None:
        """The host that an initiator belongs to; its name in the normal form, as a login has it."""
        return next((host for host in self._hosts.values() if initiator_name in host.initiators), None)

    async def save_host(self, host: Host) -> Host:
        """Add (id 0) or change a host. LunetteError: invalid, exists."""
        check_volume_name(host.name)
        initiators = tuple(dict.fromkeys(check_initiator(name) for name in host.initiators))
        if host.chap is not None:
            check_chap(host.chap)
        for other in self._hosts.values():
            if other.id == host.id:
                continue
            if other.name == host.name:
                raise LunetteError("exists", f"there is a host {host.name!r} already")
            for name in initiators:
                if name in other.initiators:
                    raise LunetteError("exists", f"{name} belongs to host {other.name!r}")
        made = replace(host, id=host.id or max(self._hosts, default=EVERYONE) + 1, initiators=initiators)
        before = self._hosts.get(made.id)
        self._hosts[made.id] = made
        try:
            await self._entries.store(host_entry(made))
        except BaseException:
            self._restore_host(made.id, before)
            raise
        return made

    async def delete_host(self, host: Host) -> None:
        """Forget a host and its connections."""
        changes: dict[str, Any] = {f"host/{host.id}": None, f"next_lun/{host.id}": None, f"redirect/{host.id}": None}
        gone = self.connections(host.id)
        changes.update({_connection_key(each): None for each in gone})
        changes.update({f"freed_lun/{host.id}/{lun}": None for lun in self._luns.kept_order(host.id)})
        await self._entries.store(changes)
        for connection in self.connections(host.id):
            self._luns.drop(connection)
        self._hosts.pop(host.id, None)
        self._luns.forget_host(host.id)
        self._redirects.pop(host.id, None)

    # -- target port groups --------------------------------------------------------------------------------------
    def group_states(self) -> dict[int, str]:
        """Target port groups whose access state was set, with its name."""
        return dict(self._group_states)

    async def save_group_state(self, group: int, state: str) -> None:
        """Keep a group's access state."""
        await self._entries.store({f"group/{group}": state})
        self._group_states[group] = state

    # -- redirects ---------------------------------------------------------------------------------------------
    def redirects(self) -> list[Redirect]:
        return [self._redirects[each] for each in sorted(self._redirects)]

    def redirect_of(self, host: Host | None) -> Redirect | None:
        """Where this host's logins go; what is set for everyone holds for hosts without a redirect of their own."""
        own = self._redirects.get(host.id) if host is not None else None
        return own or self._redirects.get(EVERYONE)

    async def save_redirect(self, redirect: Redirect) -> None:
        """Set a redirect. LunetteError invalid."""
        parse_address(redirect.address)
        await self._entries.store(redirect_entry(redirect))
        self._redirects[redirect.host_id] = redirect

    async def delete_redirect(self, host_id: int) -> None:
        """Let the host log in here again."""
        await self._entries.store({f"redirect/{host_id}": None})
        self._redirects.pop(host_id, None)

    # -- connections -------------------------------------------------------------------------------------------
    def connections(self, host_id: int | None = None) -> list[Connection]:
        """Connections of one host (or all), by LUN."""
        return self._luns.all() if host_id is None else self._luns.of_host(host_id)

    def connections_of(self, object_id: int) -> list[Connection]:
        """Where an object is connected, everyone first."""
        return self._luns.of_object(object_id)

    def lun_map(self, host: Host | None, *, open_access: bool, without: Collection[Connection] = (),
                added: Connection | None = None) -> dict[int, int]:
        """LUN -> object id that an initiator of `host` (None: of no host) sees, or would see after a change."""
        return self._luns.seen_by(None if host is None else host.id, open_access=open_access, without=without, added=added)

    def may_connect(self, info: ObjectInfo, host_id: int, lun: int | None) -> Connection | None:
        """The connection that there is already. LunetteError: exists (the LUN or this object is connected there), invalid."""
        same = next((each for each in self.connections_of(info.id) if each.host_id == host_id), None)
        if same is not None and lun in (None, same.lun):
            return same
        if same is not None:
            raise LunetteError("exists", f"{info.name} is connected as LUN {same.lun} already")
        if lun is not None:
            if not 0 <= lun <= MAX_LUN:
                raise LunetteError("invalid", f"a LUN is a number from 0 to {MAX_LUN}")
            taken = self._luns.at(host_id, lun)
            if taken is not None:
                other = self.pool.info(taken.object_id)
                raise LunetteError("exists", f"LUN {lun} is {other.name if other else 'taken'} already")
        return None

    async def connect(self, info: ObjectInfo, host_id: int = EVERYONE, lun: int | None = None,
                      held: Callable[[int], bool] = lambda lun: False) -> Connection:
        """Connect an object; without `lun`, as the number that has been free the longest (target/volumes/luns.py).

        LunetteError: as `may_connect`, limit.
        """
        same = self.may_connect(info, host_id, lun)
        if same is not None:
            return same
        connection = Connection(host_id, self._luns.next_free(host_id, held) if lun is None else lun, info.id)
        changes: dict[str, Any] = connection_entry(connection)
        if connection.lun in self._luns.kept_order(host_id):
            changes[_freed_key(connection)] = None
        self._luns.add(connection)
        try:
            await self._entries.store(changes)
        except BaseException:
            self._luns.drop(connection)
            raise
        return connection

    async def disconnect(self, connections: Iterable[Connection]) -> None:
        """Take connections away."""
        gone = list(connections)
        await self._entries.store(self.taking_away(gone))
        for each in gone:
            self._luns.drop(each)

    # -- the pool's use ----------------------------------------------------------------------------------------
    @property
    def thresholds(self) -> Thresholds:
        return self._thresholds

    async def save_thresholds(self, thresholds: Thresholds) -> None:
        """Set both. LunetteError invalid."""
        if not 0 < thresholds.soft_percent <= thresholds.hard_percent <= 100:
            raise LunetteError("invalid", "thresholds are 1 to 100 percent, the soft one not above the hard one")
        await self._entries.store({"thresholds": asdict(thresholds)})
        self._thresholds = thresholds

    # -- what logical units and deleted objects leave ----------------------------------------------------------
    def unit_state(self, object_id: int) -> bytes:
        """What `save_unit_state` last got for an object; empty if nothing."""
        return self._states.get(object_id, b"")

    async def save_unit_state(self, object_id: int, state: bytes) -> None:
        """Keep a logical unit's state (reservations, saved mode pages); durable on return."""
        await self._entries.store({f"unit/{object_id}": state})
        self._states[object_id] = state

    async def forget_object(self, object_id: int) -> None:
        """Remove what belonged to a deleted object."""
        gone = self.connections_of(object_id)
        changes = self.taking_away(gone)
        if object_id in self._states:
            changes[f"unit/{object_id}"] = None
        for each in gone:
            self._luns.drop(each)
        self._states.pop(object_id, None)
        await self._entries.store(changes)

    def renaming(self) -> dict[int, tuple[str, str]]:
        """Volumes that are being renamed with their snapshots: by id, the old name and the new one."""
        return dict(self._renaming)

    async def save_renaming(self, object_id: int, names: tuple[str, str] | None) -> None:
        """Keep what a rename of several objects means to do; None when it is over."""
        await self._entries.store({f"renaming/{object_id}": names})
        if names is None:
            self._renaming.pop(object_id, None)
        else:
            self._renaming[object_id] = names

    # -- inside ------------------------------------------------------------------------------------------------
    def adopt(self, changes: Mapping[str, bytes | None]) -> None:
        """Take over what of these changes of the store concerns hosts, connections and the target. LunetteError damaged."""
        self._entries.adopt(changes)
        self._settle()

    def taking_away(self, gone: Iterable[Connection]) -> dict[str, Any]:
        """The changes of the store for connections that go: each number's place in the order of the free ones is kept."""
        changes: dict[str, Any] = {}
        for each in gone:
            changes[_connection_key(each)] = None
            if each.lun < PERIPHERAL_LUNS:
                self._freed += 1
                changes[_freed_key(each)] = self._freed
        return changes

    def _restore_host(self, host_id: int, before: Host | None) -> None:
        if before is None:
            self._hosts.pop(host_id, None)
        else:
            self._hosts[host_id] = before

    # -- entries of the store: those about objects that are gone (a crash between two changes) are left aside -----------
    def _load_host(self, rest: str, value: Any) -> None:
        self._hosts[int(rest)] = _host_from(int(rest), value)

    def _load_connection(self, rest: str, value: Any) -> None:
        host_id, lun = _host_and_lun(rest)
        object_id = int(value["object"])
        if self.pool.info(object_id) is None:
            self._became_free.append((LAST, host_id, lun))
        else:
            self._luns.add(Connection(host_id, lun, object_id))

    def _drop_connection(self, rest: str) -> None:
        taken = self._luns.at(*_host_and_lun(rest))
        if taken is not None:
            self._luns.drop(taken)

    def _load_freed(self, rest: str, value: Any) -> None:
        self._became_free.append((int(value), *_host_and_lun(rest)))

    def _load_redirect(self, rest: str, value: Any) -> None:
        parse_address(value["address"])
        self._redirects[int(rest)] = Redirect(int(rest), str(value["address"]), bool(value["permanent"]))

    def _load_thresholds(self, rest: str, value: Any) -> None:
        self._thresholds = Thresholds(int(value["soft_percent"]), int(value["hard_percent"]))

    def _drop_thresholds(self, rest: str) -> None:
        self._thresholds = Thresholds()

    def _load_group(self, rest: str, value: Any) -> None:
        self._group_states[int(rest)] = str(value)

    def _load_renaming(self, rest: str, value: Any) -> None:
        old, new = value
        self._renaming[int(rest)] = str(old), str(new)

    def _load_unit(self, rest: str, raw: bytes) -> None:
        if self.pool.info(int(rest)) is not None:
            self._states[int(rest)] = raw

    def _settle(self) -> None:
        """What only all entries together say: in which order numbers became free, and whose each initiator is."""
        for order, host_id, lun in sorted(self._became_free):
            self._freed = max(self._freed, order if order != LAST else 0)
            if self._luns.at(host_id, lun) is None:
                self._luns.freed(host_id, lun)
        self._became_free.clear()
        self._hosts = names_settled(self._hosts)


def _host_and_lun(rest: str) -> tuple[int, int]:
    host_id, _, lun = rest.partition("/")
    return int(host_id), int(lun)


def host_entry(host: Host) -> dict[str, Any]:
    """How a host is kept."""
    return {f"host/{host.id}": _host_value(host)}


def connection_entry(connection: Connection) -> dict[str, Any]:
    """How a connection is kept."""
    return {_connection_key(connection): {"object": connection.object_id}}


def redirect_entry(redirect: Redirect) -> dict[str, Any]:
    """How a redirect is kept."""
    return {f"redirect/{redirect.host_id}": {"address": redirect.address, "permanent": redirect.permanent}}


def _connection_key(connection: Connection) -> str:
    return f"connection/{connection.host_id}/{connection.lun}"


def _freed_key(connection: Connection) -> str:
    return f"freed_lun/{connection.host_id}/{connection.lun}"


def _host_value(host: Host) -> dict[str, Any]:
    value: dict[str, Any] = {"name": host.name, "initiators": list(host.initiators)}
    if host.chap is not None:
        value["chap"] = {"name": host.chap.name, "secret": base64.b64encode(host.chap.secret).decode(),
                         "mutual_name": host.chap.mutual_name,
                         "mutual_secret": base64.b64encode(host.chap.mutual_secret).decode()}
    if host.events:
        value["events"] = True
    return value


def _host_from(host_id: int, value: dict[str, Any]) -> Host:
    chap = None
    if value.get("chap"):
        stored = value["chap"]
        chap = Chap(str(stored["name"]), base64.b64decode(stored["secret"]), str(stored["mutual_name"]),
                    base64.b64decode(stored["mutual_secret"]))
    return Host(host_id, str(value["name"]), tuple(value["initiators"]), chap, bool(value.get("events", False)))
