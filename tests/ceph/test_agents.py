"""The agent on a real etcd: two machines, some pools on a real cluster, one of them killed with all that it runs."""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import pytest

from target.agent.agent import StoreError
from target.agent.etcd import Etcd
from tests.ceph.conftest import Images
from tests.support.daemon import free_port
from tests.support.stamps import Lost, Session, stamped

pytestmark = pytest.mark.skipif(shutil.which("etcd") is None, reason="etcd-server is not installed (make ceph)")
WAIT_SECONDS = 90
T = TypeVar("T")


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    """An etcd of its own."""
    client, peer = (f"http://127.0.0.1:{free_port()}" for _ in range(2))
    with (tmp_path / "etcd.log").open("wb") as out:
        process = subprocess.Popen(["etcd", "--data-dir", str(tmp_path / "etcd"), "--listen-client-urls", client,
                                    "--advertise-client-urls", client, "--listen-peer-urls", peer,
                                    "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}"],
                                   stdout=out, stderr=out)
    store = Etcd([client])

    def answers() -> bool:
        try:
            return store.read("x/") == {}
        except StoreError:
            return False

    wait_for(answers)
    yield client
    process.kill()
    process.wait()


def test_the_store(url: str) -> None:
    store = Etcd(["http://127.0.0.1:9", url])
    lease = store.grant(600)
    store.put("a/1", "one", lease)
    store.put("a/2", "two")
    store.put("b", "other")
    assert store.read("a/") == {"a/1": "one", "a/2": "two"}
    assert store.read("a/2") == {"a/2": "two"}
    assert not store.create("a/2", "again")
    store.replace("a/2", "a/3", "moved")
    store.keep_alive(lease)
    assert store.read("a/") == {"a/1": "one", "a/3": "moved"}
    lease = store.grant(1)
    with suppress(StoreError):              # on a slow machine it has ended already
        store.put("a/5", "short", lease)
    wait_for(lambda: store.read("a/") == {"a/1": "one", "a/3": "moved"})
    with pytest.raises(StoreError):
        store.keep_alive(lease)
    with pytest.raises(StoreError):
        store.put("a/4", "late", lease)
    store.delete("a/1")
    store.delete("a/3")
    assert store.read("a/") == {}
    with pytest.raises(StoreError, match="refused"):
        Etcd(["http://127.0.0.1:9"]).grant(1)


class Machine:
    """An agent with a process group of its own."""

    def __init__(self, name: str, url: str, directory: Path) -> None:
        self.host = f"127.0.0.{2 + int(name[1:])}"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "target", "agent", "run", "--name", name, "--host", self.host, "--directory",
             str(directory / name), "--etcd", url, "--option=--open", "--option=--lease=4"], start_new_session=True)

    def signal(self, number: signal.Signals) -> None:
        """To the agent and all that it runs."""
        os.killpg(self.process.pid, number)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(60)


def test_pools_of_a_machine_that_died_are_served_by_the_other_and_come_back(images: Images, url: str, tmp_path: Path) -> None:
    store, ports = Etcd([url]), [free_port() for _ in range(3)]
    made = [images.gateway() for _ in ports]
    for number, (daemon, port) in enumerate(zip(made, ports, strict=True)):
        daemon.cli("agent", "add", f"p{number}", str(daemon.pool), "--port", str(port), "--etcd", url)
    machines = {name: Machine(name, url, tmp_path) for name in ("m0", "m1")}

    def served(by: set[str]) -> bool:
        running = store.read("running/")
        return len(running) == len(ports) and set(running.values()) == by

    def ask(number: int, work: Callable[[Session], T]) -> T:
        """Have it done by a session, wherever that pool is, and again when it has moved."""
        def there() -> bool:
            host = machines[store.read(f"running/p{number}").get(f"running/p{number}", "m0")].host
            with suppress(Lost):
                done.append(work(Session(f"{host}:{ports[number]}", made[number].target, "iqn.2026-01.test:one")))
            return bool(done)

        done: list[T] = []
        wait_for(there)
        return done[0]

    def mark(number: int) -> bytes:
        return ask(number, lambda session: session.read(0, 0, 8).data)

    def create(number: int) -> bool:
        host = store.read(f"running/p{number}")[f"running/p{number}"]
        words = ("--api", str(tmp_path / host / f"p{number}.sock"), "create", "v", "--size", "8M")
        return subprocess.run([sys.executable, "-m", "target", *words], check=False, capture_output=True).returncode == 0

    try:
        wait_for(lambda: served({"m0", "m1"}))
        for number in range(len(ports)):
            wait_for(functools.partial(create, number))
            assert ask(number, lambda session, number=number: session.write(0, 0, stamped(number + 1, 0, 8, 1)).status) == 0
        machines["m0"].signal(signal.SIGKILL)
        wait_for(lambda: served({"m1"}))
        for number in range(len(ports)):
            assert mark(number) == stamped(number + 1, 0, 8, 1)
        machines["m0"] = Machine("m0", url, tmp_path)
        wait_for(lambda: served({"m0", "m1"}))                   # by a planned move
        for number in range(len(ports)):
            assert mark(number) == stamped(number + 1, 0, 8, 1)
        listed = made[0].cli("agent", "ls", "--etcd", url)
        assert "p2" in listed
        assert "m0" in listed
        assert set(json.loads(store.read("gateways/m1")["gateways/m1"])) == {"weight", "maintenance", "address"}
    finally:
        for machine in machines.values():
            machine.end()
    for daemon in made:
        assert "clean" in daemon.check()
