"""Addresses of a wildcard portal, from netlink messages and from this machine (target/server/netlink.py)."""

from __future__ import annotations

import socket
from typing import Any

from target.server.netlink import IFA_F_TENTATIVE, LocalAddresses


class Message(dict[str, Any]):
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
