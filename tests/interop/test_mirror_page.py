"""The page on mirrors, from nothing through a disaster and back: its commands are run as they stand, but for their places."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.pair import Pair, Side, paused, until
from tests.support.places import pool_directory

PAGE = Path(__file__).parents[2] / "docs" / "protection.md"
pytestmark = pytest.mark.needs("libiscsi")


def lines() -> list[str]:
    """Of all its consoles: `a$ COMMAND`, `b$ COMMAND`, and what happens (`# A is gone`)."""
    return [line for block in re.findall(r"```console\n(.*?)```", PAGE.read_text(), re.DOTALL) for line in block.splitlines()]


def test_the_page_does_what_it_says(tmp_path: Path) -> None:
    with pool_directory(tmp_path) as place:
        pair = Pair(place)
        try:
            Reader(pair, place).read()
        finally:
            pair.close()


class Reader:
    """Somebody who does what the page says."""

    def __init__(self, pair: Pair, place: Path) -> None:
        self.pair = pair
        self.place = place
        self.places = {f"10.0.0.1:326{n}": f"127.0.0.1:{port}" for n, port in ((0, pair.a.daemon.port), (1, pair.a.peer_port))}
        self.places |= {f"10.0.0.2:326{n}": f"127.0.0.1:{port}" for n, port in ((0, pair.b.daemon.port), (1, pair.b.peer_port))}
        self.places |= {"/srv/attic": f"{place}/attic", "/etc/lunette/attic.key": f"{place}/key", "--rpo 30s": "--rpo 1s"}

    def read(self) -> None:
        a, b = self.pair.a, self.pair.b
        for line in lines():
            if line == "# A is gone":
                until(lambda: a.mirror("db")["rounds"] >= 2)
                paused(a, "db")
                a.write("db", 8192, b"lost" * 1024)     # B will not see it
                a.daemon.stop(signal.SIGKILL)
            elif line == "# A is back":
                b.write("db", 0, b"later" * 1024 + bytes(3072))
                a.daemon.start()
                assert a.mirror("db")["role"] == "superseded"
            else:
                self.run(line)
        assert a.mirror("db")["role"] == "primary"
        assert a.read("db", 0, 4096) == (b"later" * 1024)[:4096]
        (kept,) = (name for name in a.ls() if name.startswith("db@diverged-"))
        assert a.read(kept, 8192, 4096) == b"lost" * 1024
        assert b.read("db-old", 0, 4096) == b"first" * 819 + b"f"

    def run(self, line: str) -> None:
        side = {"a$": self.pair.a, "b$": self.pair.b}[line[:2]]
        text = line[3:].replace("/srv/pool.lunette --size 2T", f"{self.place}/{line[0]}.lunette --size 2G")
        for there, here in self.places.items():
            text = text.replace(there, here)
        words = shlex.split(text)
        if words[:2] == ["lunette", "serve"]:
            side.daemon.start()                         # with the same options, its pool elsewhere
            return
        if words[1] == "backup":
            side.write("db", 0, b"first" * 1024 + bytes(3072))
            side.cli("delete", words[2])                # the snapshot was taken before there was anything in it
            side.cli("snapshot", words[2])
        if words[1:3] == ["mirror", "ls"]:
            until(lambda: side.mirrors()["db"]["lag_s"] is not None)
        if words[1] == "promote":
            until(lambda: "db" in side.mirrors())
        self.lunette(side, text)

    def lunette(self, side: Side, text: str) -> None:
        command = text.replace("lunette", f"{shlex.quote(sys.executable)} -m target", 1)
        done = subprocess.run(["bash", "-c", command], cwd=self.place, capture_output=True, text=True, check=False, timeout=60,
                              env={**os.environ, "LUNETTE_API": str(side.daemon.api),
                                   "PYTHONPATH": str(PAGE.parents[1])})
        allowed = (0, 1) if text.startswith("lunette mirror ls") else (0,)      # it says that the mirror has diverged
        assert done.returncode in allowed, (text, done.stdout, done.stderr)
