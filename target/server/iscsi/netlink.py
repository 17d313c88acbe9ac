"""Which addresses a wildcard portal stands for, followed through netlink as they come and go (RFC 7143 §13.8)."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
from pathlib import Path
from typing import Any

log = logging.getLogger("lunette.netlink")

RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR = 0x10, 0x100
IFA_F_TENTATIVE, IFA_F_DADFAILED = 0x40, 0x08


def is_inner(index: int, interfaces: Path = Path("/sys/class/net")) -> bool:
    """Whether an interface is a bridge without a port that leads outside: a device, or what stands on one (bond, VLAN)."""
    try:
        bridge = interfaces / socket.if_indextoname(index)
    except OSError:
        return False
    if not (bridge / "bridge").is_dir():
        return False
    ports = [interfaces / port.name for port in (bridge / "brif").glob("*")]
    return not any((port / "device").exists() or any(port.glob("lower_*")) for port in ports)


class LocalAddresses:
    """The machine's usable addresses, current while `follow` runs. Where netlink fails the list is empty and that is logged."""

    def __init__(self) -> None:
        self._addresses: dict[str, int] = {}     # address -> index of its interface
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read all addresses, then follow changes in the background."""
        ready = asyncio.Event()
        self._task = asyncio.create_task(self._follow(ready), name="netlink")
        waiter = asyncio.create_task(ready.wait())
        await asyncio.wait({self._task, waiter}, return_when=asyncio.FIRST_COMPLETED, timeout=5)
        waiter.cancel()

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    def of_family(self, ipv6: bool, inner: bool = False) -> list[str]:
        """Addresses of one family, sorted; without link-local IPv6 (they need a zone that a peer cannot know).

        Without those of bridges that only this machine's guests and containers are on (docker0, virbr0), unless `inner`.
        """
        found = [ipaddress.ip_address(each) for each, index in self._addresses.items() if inner or not is_inner(index)]
        return [str(each) for each in sorted((each for each in found if (each.version == 6) == ipv6), key=int)
                if not (each.version == 6 and each.is_link_local)]

    async def _follow(self, ready: asyncio.Event) -> None:
        try:
            from pyroute2 import AsyncIPRoute

            async with AsyncIPRoute() as route:
                await route.bind(groups=RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR)
                async for message in await route.get_addr():
                    self.apply(message)
                ready.set()
                while True:
                    async for message in route.get():
                        self.apply(message)
        except Exception as error:  # pyroute2 raises its own kinds, OSError and ValueError; only discovery needs this
            log.warning("local addresses are not followed: %s", error)

    def apply(self, message: Any) -> None:
        """Take one RTM_NEWADDR or RTM_DELADDR into account; anything else is ignored."""
        event = message.get("event")
        if event not in ("RTM_NEWADDR", "RTM_DELADDR") or message.get("family") not in (socket.AF_INET, socket.AF_INET6):
            return
        address = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
        flags = message.get_attr("IFA_FLAGS") or message.get("flags", 0)
        if address is None:
            return
        if event == "RTM_NEWADDR" and not flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED):
            self._addresses[address] = message.get("index") or 0
        elif event == "RTM_DELADDR":
            self._addresses.pop(address, None)
