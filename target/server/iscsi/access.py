"""Who may log in and what discovery shows: the login code's gatekeeper, answered from the catalog (RFC 7143 §9.2, §4.3)."""

from __future__ import annotations

import ipaddress
import logging
import zlib
from collections.abc import Collection, Iterable, Sequence

from target.config import Network, Portal, parse_portal, plain_address
from target.iscsi import Credentials, LoginStatus, PortalAddress, Redirect, SessionType, TargetInfo, TargetRecord, same_name
from target.server.iscsi.netlink import LocalAddresses
from target.server.iscsi.throttle import Throttle
from target.volumes.catalog import Catalog, parse_address
from target.volumes.luns import Connection

log = logging.getLogger("lunette.access")

NO_HOST = 1 << 32      # in a number that stands for an initiator


class Access:
    """The rules of one daemon: what is open, which portals there are."""

    def __init__(self, catalog: Catalog, target_name: str, *, open_access: bool, portals: Sequence[Portal],
                 addresses: LocalAddresses, advertise: Sequence[Network] = ()) -> None:
        self.catalog = catalog
        self.target_name = target_name
        self.open_access = open_access
        self.portals = list(portals)
        self.addresses = addresses
        self.advertise = advertise
        self.elsewhere: list[PortalAddress] = []    # portals of other gateways for the same pool
        self._unseen = Throttle()

    def allowed(self, initiator_name: str) -> bool:
        """Whether an initiator may reach the target at all. Deny by default."""
        return self.open_access or self.catalog.host_of(initiator_name) is not None

    def log_unseen(self, initiator_name: str) -> None:
        """A discovery that shows nothing looks like no target at all: the log says why."""
        more = self._unseen.more(initiator_name)
        if more is not None:
            log.warning("discovery by %s shows no target: it belongs to no host%s", initiator_name, more)

    def wants_events(self, initiator_name: str) -> bool:
        """Whether an initiator's host asked for asynchronous SCSI events."""
        host = self.catalog.host_of(initiator_name)
        return host is not None and host.events

    def host_number(self, initiator_name: str) -> int:
        """One number for all initiators of a host, another for each that belongs to none: who takes turns as one."""
        host = self.catalog.host_of(initiator_name)
        return host.id if host is not None else NO_HOST | zlib.crc32(initiator_name.encode())

    def lun_map(self, initiator_name: str, *, without: Collection[Connection] = (),
                added: Connection | None = None) -> dict[int, int]:
        """LUN -> object id as this initiator sees it, or would see it after a change."""
        return self.catalog.lun_map(self.catalog.host_of(initiator_name), open_access=self.open_access, without=without,
                                    added=added)

    def expand(self, portal: Portal, *, loopback: bool) -> list[str]:
        """The addresses a portal can be reached at; loopback ones only for a peer that came by one."""
        if not portal.is_wildcard:
            return [without_zone(portal.host)]
        found = [each for ipv6 in (False, True) if ipv6 == portal.is_ipv6 or (portal.both_families and not ipv6)
                 for each in self._of_family(ipv6)]
        return [each for each in found if loopback or not ipaddress.ip_address(each).is_loopback]

    def _of_family(self, ipv6: bool) -> list[str]:
        """What a wildcard stands for: the addresses and networks to advertise, or what the machine has for others."""
        if not self.advertise:
            return self.addresses.of_family(ipv6)
        local = self.addresses.of_family(ipv6, inner=True)
        return list(dict.fromkeys(address for network in self.advertise if (network.version == 6) == ipv6 for address in (
            [str(network.network_address)] if network.num_addresses == 1 else
            [each for each in local if ipaddress.ip_address(each) in network])))

    def tells(self, host: str) -> bool:
        """Whether the address that a connection came in by is one that discovery tells."""
        address = ipaddress.ip_address(host)
        return (not self.advertise or address.is_loopback or any(host == without_zone(each.host) for each in self.portals)
                or any(address in network for network in self.advertise))

    def url(self, lun: int) -> str:
        """The iscsi:// URL of a LUN through the first portal, at an address that can be reached."""
        portal = self.portals[0]
        host = next(iter(self.expand(portal, loopback=False)), "127.0.0.1")
        return f"iscsi://{Portal(host, portal.port)}/{self.target_name}/{lun}"

    def groups(self) -> list[int]:
        """The portal group tags there are; each is a target port and a target port group too."""
        return sorted({portal.group for portal in self.portals})

    def at(self, host: str, port: int, group: int = 1) -> Gatekeeper:
        """The gatekeeper for a connection that came in at this local address, by a portal of this group."""
        return Gatekeeper(self, without_zone(plain_address(host)), port, group)


def addresses_of(portals: Iterable[str]) -> list[PortalAddress]:
    """Portals of other gateways as discovery tells them, from what `--listen` says there. Wildcards only they can resolve."""
    found = [parse_portal(each) for each in portals]
    return [PortalAddress(each.host, each.port, each.group) for each in found if not each.is_wildcard]


def without_zone(host: str) -> str:
    """An address as others may know it: a zone names an interface of this machine."""
    return host.partition("%")[0]


class Gatekeeper:
    """`target.iscsi.Gatekeeper` for one connection."""

    def __init__(self, access: Access, local_host: str, local_port: int, group: int = 1) -> None:
        self._access = access
        self._local = PortalAddress(local_host, local_port, group)

    def credentials_for(self, initiator_name: str, session_type: SessionType) -> Credentials | None:
        host = self._access.catalog.host_of(initiator_name)
        if host is None or host.chap is None:
            return None
        return Credentials(name=host.chap.name, secret=host.chap.secret, mutual_name=host.chap.mutual_name,
                           mutual_secret=host.chap.mutual_secret)

    def find_target(self, initiator_name: str, target_name: str) -> TargetInfo | Redirect | LoginStatus:
        if not same_name(target_name, self._access.target_name):
            return LoginStatus.NOT_FOUND
        if not self._access.allowed(initiator_name):
            return LoginStatus.AUTHORIZATION_FAILURE
        moved = self._access.catalog.redirect_of(self._access.catalog.host_of(initiator_name))
        if moved is not None and not self._is_here(moved.address):
            return Redirect(moved.address, moved.permanent)
        return TargetInfo(self._access.target_name, self._local.portal_group_tag)

    def _is_here(self, address: str) -> bool:
        """Whether a redirect points at the portal that the login came in by: who has followed it must not be sent again."""
        return parse_address(address) == (self._local.host.lower(), self._local.port)

    def discovery_portal_group_tag(self) -> int:
        return self._local.portal_group_tag

    def targets_for(self, initiator_name: str) -> Sequence[TargetRecord]:
        if not self._access.allowed(initiator_name):
            self._access.log_unseen(initiator_name)
            return []
        loopback = ipaddress.ip_address(self._local.host).is_loopback
        addresses = [self._local] if self._access.tells(self._local.host) else []
        for portal in self._access.portals:
            for host in self._access.expand(portal, loopback=loopback):
                address = PortalAddress(host, portal.port, portal.group)
                if address not in addresses:
                    addresses.append(address)
        addresses += [each for each in self._access.elsewhere if each not in addresses]
        return [TargetRecord(self._access.target_name, addresses or [self._local])]
