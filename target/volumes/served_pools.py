"""Who serves what on a pool of a Ceph cluster: the list that gateways keep there, and the clients that are blocked."""

from __future__ import annotations

import time
from typing import Any

from core.ceph import PREFIX, Client, parse_place
from core.errors import PoolError
from core.medium import image_opener
from target.errors import LunetteError
from target.volumes.owner import gone


def _client(place: str) -> Client:
    """A client for `rbd:POOL[@CONF]`. LunetteError."""
    pool, at, conf = place.removeprefix(PREFIX).partition("@")
    try:
        return Client(parse_place(place if "/" in pool else f"{PREFIX}{pool}/-{at}{conf}"))
    except PoolError as error:
        raise LunetteError(error.code, str(error)) from None


def gateways(place: str) -> list[dict[str, Any]]:
    """A row for each pool that was served, and one for each blocked client. LunetteError."""
    client = _client(place)
    try:
        blocked = client.blocked()
        served = client.gateways.all()
        rows = [{"image": image, "state": "fenced" if facts.get("client") in blocked else str(facts.get("state", "")),
                 "host": facts.get("host", ""), "pid": facts.get("pid", 0), "portals": " ".join(facts.get("portals", [])),
                 "client": facts.get("client", ""), "since_s": facts.get("since_s", 0)}
                for image, facts in sorted(served.items())]
        known = {row["client"] for row in rows}
        return rows + [{"image": facts.get("image", ""), "state": "fenced", "host": facts.get("host", ""),
                        "pid": facts.get("pid", 0), "portals": "", "client": address, "since_s": facts.get("blocked_s", 0)}
                       for address, facts in sorted(client.fenced.all().items()) if address not in known]
    except OSError as error:
        raise LunetteError("io_read", f"{place}: {error.strerror}") from None
    finally:
        client.close()


def unblock(place: str, address: str, *, force: bool) -> None:
    """Unblock a client. Unless its process is seen to be dead from here, that takes `force`. LunetteError."""
    client = _client(place)
    try:
        facts = client.fenced.all().get(address)
        if facts is None:
            raise LunetteError("not_found", f"no gateway of {place} has blocked {address}")
        if not force and not gone({**facts, "blocked_s": time.time() - 1e6}, image_opener("", 0.0)):
            who = f"process {facts.get('pid')} on {facts.get('host')}"
            raise LunetteError("needs_force", f"{who} cannot be seen from here: if it lives, it would write to a pool that is "
                                              "another's; --force if it is dead for certain")
        client.unblock(address)
        client.fenced.remove(address)
    except OSError as error:
        raise LunetteError("io_write", f"{place}: {error.strerror}") from None
    finally:
        client.close()
