"""Addresses of a wildcard portal, from netlink messages and from this machine (target/server/iscsi/netlink.py)."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from target.config import Portal, parse_advertised
from target.server.iscsi.access import Access
from target.server.iscsi.netlink import IFA_F_TENTATIVE, LocalAddresses, is_inner
from target.volumes.catalog import Catalog
from target.volumes.gateway import AsyncPool
from tests.support.fake_pool import FakePool

ANY = Portal("0.0.0.0")


class Message(dict[str, Any]):
    def __or__(self, other: Any) -> Message:
        return Message({**self, **other})

    def get_attr(self, name: str) -> Any:
        return self.get(name)


def change(event: str, address: str, flags: int = 0) -> Message:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return Message(event=event, family=family, IFA_ADDRESS=address, IFA_FLAGS=flags)


def test_addresses_come_and_go() -> None:
    addresses = LocalAddresses()
    for each in ("10.0.0.9", "10.0.0.10", "fe80::1", "2001:db8::1"):
        addresses.apply(change("RTM_NEWADDR", each))
    assert addresses.of_family(ipv6=False) == ["10.0.0.9", "10.0.0.10"]
    assert addresses.of_family(ipv6=True) == ["2001:db8::1"]
    addresses.apply(change("RTM_DELADDR", "10.0.0.9"))
    addresses.apply(change("RTM_NEWADDR", "10.0.0.11", IFA_F_TENTATIVE))
    addresses.apply(Message(event="RTM_NEWROUTE"))
    assert addresses.of_family(ipv6=False) == ["10.0.0.10"]


async def test_this_machine_has_its_loopback_address() -> None:
    addresses = LocalAddresses()
    await addresses.start()
    assert "127.0.0.1" in addresses.of_family(ipv6=False)
    await addresses.stop()


def test_a_bridge_of_guests_only_is_inner(tmp_path: Path) -> None:
    index, name = socket.if_nametoindex("lo"), "lo"
    assert not is_inner(index, tmp_path)
    (tmp_path / name / "bridge").mkdir(parents=True)
    assert is_inner(index, tmp_path)
    for port, leads in (("veth1", ""), ("tap0", ""), ("eth0", "device")):
        (tmp_path / name / "brif" / port).mkdir(parents=True)
        (tmp_path / port / leads).mkdir(parents=True)
        assert is_inner(index, tmp_path) == (not leads)
    assert not is_inner(0, tmp_path)


def test_discovery_tells_of_wildcards_what_hosts_outside_may_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = LocalAddresses()
    for index, each in enumerate(("172.17.0.1", "10.0.0.9", "192.168.1.5", "2001:db8::1", "127.0.0.1"), 1):
        addresses.apply(change("RTM_NEWADDR", each) | {"index": index})
    monkeypatch.setattr("target.server.iscsi.netlink.is_inner", lambda index: index == 1)

    def told(local: str, *advertise: str, portal: Portal = ANY) -> list[str]:
        catalog = Catalog(AsyncPool(FakePool()))
        access = Access(catalog, "iqn.x:t", open_access=True, portals=[portal], addresses=addresses,
                        advertise=[parse_advertised(each) for each in advertise])
        (record,) = access.at(local, 3260).targets_for("iqn.2026-01.test:a")
        return [each.host for each in record.addresses]

    both = Portal("::", both_families=True)
    assert told("10.0.0.9") == ["10.0.0.9", "192.168.1.5"]
    assert told("172.17.0.1") == ["172.17.0.1", "10.0.0.9", "192.168.1.5"]
    assert told("127.0.0.1") == ["127.0.0.1", "10.0.0.9", "192.168.1.5"]
    assert told("::ffff:10.0.0.9", portal=both) == ["10.0.0.9", "192.168.1.5", "2001:db8::1"]
    assert told("192.168.1.5", "10.0.0.0/8") == ["10.0.0.9"]
    assert told("10.0.0.9", "172.17.0.0/16", "203.0.113.7") == ["172.17.0.1", "203.0.113.7"]
    assert told("10.0.0.9", "11.0.0.0/8") == ["10.0.0.9"]      # nothing of it is here: the way it came is better than none
    assert told("fe80::1%eth0", portal=Portal("fe80::1%eth0")) == ["fe80::1"]
