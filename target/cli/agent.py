"""The agent that serves what it is given, and what pools there are to give (docs/ceph.md, Who decides)."""

from __future__ import annotations

import json
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from target.cli.group import Group
from target.cli.request import print_table
from target.errors import LunetteError


def _etcd(command: Callable[..., Any]) -> Callable[..., Any]:
    command = click.option("--etcd", "urls", multiple=True, default=("http://127.0.0.1:2379",), show_default=True, metavar="URL",
                           help="A server of etcd; more than once for several.")(command)
    return click.option("--prefix", default="/lunette/", show_default=True, help="What all keys begin with.")(command)


@click.group(cls=Group)
def agent() -> None:
    """Many pools on many gateways: an agent on each machine, a table in etcd."""


@agent.command("run")
@click.option("--name", required=True, help="This machine's, as no other's.")
@click.option("--host", required=True, metavar="ADDR", help="Where its gateways listen, each at its pool's port.")
@click.option("--directory", type=click.Path(file_okay=False), default="/run/lunette", show_default=True,
              help="For sockets and logs.")
@click.option("--weight", type=click.FloatRange(0.01, 1000), default=1.0, show_default=True, help="Its share of the load.")
@click.option("--option", "options", multiple=True, metavar="WORD", help="A further word for each `lunette serve`.")
@_etcd
def run(name: str, host: str, directory: str, weight: float, options: tuple[str, ...], urls: tuple[str, ...], prefix: str) -> int:
    """Serve the pools that this machine is given, until SIGTERM; then they are given to others in good order."""
    from target.agent.agent import TICK_S, Agent
    from target.agent.etcd import Etcd
    from target.agent.processes import Processes

    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s: %(message)s")
    Path(directory).mkdir(parents=True, exist_ok=True)
    processes = Processes(Path(directory), host=host, options=options)
    one = Agent(name, Etcd(list(urls), prefix), processes, time.monotonic, address=host, weight=weight)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    signal.signal(signal.SIGUSR1, lambda *_: setattr(one, "maintenance", not one.maintenance))
    try:
        while not stopping.wait(TICK_S):
            one.tick()
    finally:
        processes.close()
    return 0


@agent.command("add")
@click.argument("name")
@click.argument("place", metavar="rbd:POOL/IMAGE")
@click.option("--port", type=click.IntRange(1, 65535), default=3260, show_default=True, help="Where its gateway listens.")
@click.option("--load", type=click.FloatRange(0), default=1.0, show_default=True, help="How much it is, beside others.")
@_etcd
def add(name: str, place: str, port: int, load: float, urls: tuple[str, ...], prefix: str) -> None:
    """Have a pool served by whichever machine it is given to."""
    from target.agent.etcd import Etcd

    if "/" in name:
        raise LunetteError("invalid", f"{name!r} is no name for a pool here: it must not hold a /")
    Etcd(list(urls), prefix).put(f"pools/{name}", json.dumps({"place": place, "port": port, "load": load}))


@agent.command("remove")
@click.argument("name")
@_etcd
def remove(name: str, urls: tuple[str, ...], prefix: str) -> None:
    """Have a pool served no more. The pool itself stays."""
    from target.agent.etcd import Etcd

    Etcd(list(urls), prefix).delete(f"pools/{name}")


@agent.command("ls")
@_etcd
def ls(urls: tuple[str, ...], prefix: str) -> None:
    """Which machine has which pool."""
    from target.agent.agent import StoreError
    from target.agent.etcd import Etcd

    store = Etcd(list(urls), prefix)
    try:
        pools, running = store.read("pools/"), store.read("running/")
        given = {key.split("/")[2]: key.split("/")[1] for key in store.read("assigned/")}
    except StoreError as error:
        raise LunetteError("unreachable", str(error)) from None
    print_table([[name, json.loads(value)["place"], given.get(name, ""), running.get(f"running/{name}", "")]
                 for name, value in sorted((key.split("/")[1], value) for key, value in pools.items())],
                ["POOL", "PLACE", "GIVEN TO", "RUN BY"])


COMMANDS: list[click.Command] = [agent]
