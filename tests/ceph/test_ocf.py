"""The OCF agent by `ocf-tester`, and by hand where the cluster manager is wrong (packaging/ocf)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.ceph.conftest import Images
from tests.support.daemon import DaemonProcess, free_port
from tests.support.waiting import until

AGENT = Path(__file__).parents[2] / "packaging/ocf/gateway"
OCF_ROOT = Path("/usr/lib/ocf")
SUCCESS, NOT_RUNNING = 0, 7
pytestmark = pytest.mark.skipif(shutil.which("ocf-tester") is None, reason="resource-agents is not installed (make ceph)")
Node = Callable[[str], int]


@pytest.fixture
def daemon(images: Images) -> DaemonProcess:
    """A pool, and a way to look at it; it is not started."""
    return images.gateway()


def parameters(daemon: DaemonProcess, directory: Path) -> dict[str, str]:
    return {"pool": str(daemon.pool), "listen": f"127.0.0.1:{free_port()}", "options": "--open", "lease": "4",
            "program": f"{sys.executable} -m target", "log": str(directory / "log")}


def test_ocf_tester(daemon: DaemonProcess, tmp_path: Path) -> None:
    options = [word for key, value in parameters(daemon, tmp_path).items() for word in ("-o", f"{key}={value}")]
    result = subprocess.run(["ocf-tester", "-n", "test", *options, str(AGENT)], capture_output=True, text=True, timeout=120,
                            env={**os.environ, "OCF_ROOT": str(OCF_ROOT), "HA_RSCTMP": str(tmp_path)}, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "passed all tests" in result.stdout
    assert "clean" in daemon.check()


@pytest.fixture
def nodes(daemon: DaemonProcess, tmp_path: Path) -> Iterator[list[Node]]:
    """The agent as two nodes would run it."""
    made: list[Node] = []
    for number in range(2):
        place = tmp_path / f"node{number}"
        place.mkdir()
        values = parameters(daemon, place)

        def act(action: str, values: dict[str, str] = values, place: Path = place) -> int:
            environment = {**os.environ, "OCF_ROOT": str(OCF_ROOT), "HA_RSCTMP": str(place), "OCF_RESOURCE_INSTANCE": "p",
                           **{f"OCF_RESKEY_{key}": value for key, value in values.items()}}
            return subprocess.run([str(AGENT), action], env=environment, capture_output=True, timeout=60, check=False).returncode

        made.append(act)
    yield made
    for node in made:
        node("stop")


def test_a_manager_that_starts_it_twice_has_it_once(daemon: DaemonProcess, nodes: list[Node]) -> None:
    first, second = nodes
    assert first("monitor") == NOT_RUNNING
    assert first("start") == SUCCESS
    assert first("start") == SUCCESS
    assert first("monitor") == SUCCESS
    assert second("start") == SUCCESS       # which fences the first
    assert second("monitor") == SUCCESS
    until(lambda: first("monitor") == NOT_RUNNING)
    assert first("stop") == SUCCESS
    assert second("stop") == SUCCESS
    assert second("monitor") == NOT_RUNNING
    assert "clean" in daemon.check()
