"""Two daemons that are peers, with what a test of mirrors asks of them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from target.client import Client
from tests.support.daemon import DaemonProcess, Refused, free_port
from tests.support.libiscsi import GOOD, Answer, Initiator, InitiatorError
from tests.support.waiting import until

STEP_BYTES = 4 << 20
MEDIUM_CHANGED = (6, 0x2800)


class Side:
    """One daemon."""

    def __init__(self, place: Path, name: str, *options: str, port: int = 0, group: int = 1) -> None:
        self.name = name
        place.mkdir()
        self.peer_port = port or free_port()
        self.daemon = DaemonProcess(place, "--peer", f"127.0.0.1:{self.peer_port}", *options, size="2G", pool="",
                                    listen=(f"127.0.0.1:{free_port()},{group}",))
        self.daemon.portal = self.daemon.listen[0].partition(",")[0]
        self.daemon.port = int(self.daemon.portal.rpartition(":")[2])
        self.cli = self.daemon.cli
        self.client = Client(str(self.daemon.api))

    def certificate(self) -> Path:
        path = self.daemon.directory / "peer.pem"
        path.write_text(self.cli("peer", "certificate"))
        return path

    def fingerprint(self) -> str:
        found: str = json.loads(self.cli("peer", "certificate", "--json"))["fingerprint"]
        return found

    def mirrors(self) -> dict[str, dict[str, Any]]:
        return {row["name"]: row for row in self.client.get("/v1/mirrors")}

    def ls(self) -> dict[str, dict[str, Any]]:
        return {row["name"]: row for row in self.client.get("/v1/objects")}

    def mirror(self, name: str) -> dict[str, Any]:
        return self.mirrors()[name]

    @contextlib.contextmanager
    def disk(self, name: str) -> Iterator[tuple[Initiator, int]]:
        """A session that has been told all there was to tell, and the LUN of an object."""
        row = self.ls()[name]
        if row["lun"] is None:
            self.cli("connect", name)
            row = self.ls()[name]
        with Initiator(self.daemon.portal, self.daemon.target) as initiator:
            initiator.settle(row["lun"])
            yield initiator, row["lun"]

    def write(self, name: str, offset: int, data: bytes) -> Answer:
        """As an initiator does, and flush."""
        with self.disk(name) as (initiator, lun):
            answer = initiator.write(lun, offset // 512, data)
            initiator.synchronize_cache(lun)
            return answer

    def read(self, name: str, offset: int, length: int) -> bytes:
        with self.disk(name) as (initiator, lun):
            answer = initiator.read(lun, offset // 512, length // 512)
            while (answer.key, answer.asc) == MEDIUM_CHANGED:
                answer = initiator.read(lun, offset // 512, length // 512)
            return answer.data

    def sha256(self, name: str) -> str:
        """Of all that an initiator reads of an object, from beginning to end between two changes of a replica."""
        with self.disk(name) as (initiator, lun):
            return until(lambda: self._whole(initiator, lun), f"{name} does not stand still")   # type: ignore[no-any-return]

    def _whole(self, initiator: Initiator, lun: int) -> str | None:
        digest = hashlib.sha256()
        initiator.settle(lun)
        try:
            blocks, block_bytes = initiator.capacity(lun)
        except InitiatorError:                  # it changed at this moment
            return None
        step = STEP_BYTES // block_bytes
        for at in range(0, blocks, step):
            answer = initiator.read(lun, at, min(step, blocks - at), block_bytes)
            if (answer.key, answer.asc) == MEDIUM_CHANGED:
                return None
            assert answer.status == GOOD, answer
            digest.update(answer.data)
        return digest.hexdigest()

    def freeze(self) -> None:
        """Stop the daemon without ending it: its kernel answers for it, and it says nothing."""
        assert self.daemon.process is not None
        self.daemon.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        if self.daemon.alive and self.daemon.process is not None:
            self.daemon.process.send_signal(signal.SIGCONT)

    def add_peer(self, other: Side, *allowed: str, port: int = 0) -> None:
        words = [word for each in allowed for word in ("--allow", each)]
        self.cli("peer", "add", other.name, "--address", f"127.0.0.1:{port or other.peer_port}", "--certificate",
                 str(other.certificate()), *words)


class Pair:
    """Two sides that know each other."""

    def __init__(self, place: Path, *options: str) -> None:
        self.a = Side(place / "a", "a", *options, group=1)
        self.b = Side(place / "b", "b", *options, group=2)

    def start(self) -> Pair:
        self.a.daemon.start()
        self.b.daemon.start()
        self.introduce()
        return self

    def introduce(self) -> None:
        """Each may all, of the other as it is now."""
        self.a.add_peer(self.b, "send", "receive")
        self.b.add_peer(self.a, "send", "receive")

    def mirrored(self, *names: str, size: str = "8M", options: tuple[str, ...] = (), rpo: str = "300ms") -> None:
        """New volumes of A whose mirror has had its first rounds."""
        for name in names:
            self.a.cli("create", name, "--size", size)
        self.a.cli("mirror", "add", *names, "--to", "b", "--rpo", rpo, *options)
        for name in names:
            rounds(self.a, name, 1)
            until(lambda name=name: name in self.b.mirrors())       # type: ignore[misc]

    def clear(self) -> None:
        """Whatever a test has left: both daemons run, and there is nothing in their pools."""
        for side in (self.a, self.b):
            side.resume()
            if not side.daemon.alive:
                side.daemon.close_process()
                side.daemon.start()
        for side in (self.a, self.b):
            for name in side.mirrors():
                side.cli("mirror", "rm", name)
        for side in (self.a, self.b):
            for name, row in side.ls().items():
                for tag in row["holds"]:
                    side.cli("release", name, tag)
            if names := list(side.ls()):
                side.cli("delete", "--force", *sorted(names, key=lambda name: "@" not in name))

    def close(self) -> None:
        self.a.daemon.close()
        self.b.daemon.close()


def rounds(side: Side, name: str, more: int = 2) -> None:
    """So many more rounds of a primary, begun and ended."""
    before = side.mirror(name)["rounds"]
    until(lambda: side.mirror(name)["rounds"] >= before + more, f"no rounds of {name}: {side.mirror(name)['problem']}")


def paused(side: Side, *names: str) -> None:
    """No round is under way, and none begins."""
    side.cli("mirror", "pause", *names)
    for name in names:
        until(lambda name=name: side.mirror(name)["state"] == "paused")     # type: ignore[misc]


def alike(primary: Side, replica: Side, name: str) -> bool:
    """Whether both hold the same; no round comes between, however long reading takes."""
    paused(primary, name)
    same = primary.sha256(name) == replica.sha256(name)
    primary.cli("mirror", "resume", name)
    return same


__all__ = ["Pair", "Refused", "Side", "alike", "paused", "rounds", "until"]
