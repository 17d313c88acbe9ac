"""A Ceph cluster for the tests of pools on one; `make ceph` runs them, for the minutes they take."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import cluster as ceph
from tests.support.cluster import Cluster
from tests.support.daemon import DaemonProcess

Gateway = Callable[..., DaemonProcess]
_numbers = itertools.count()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    lacking = ceph.missing()
    reason = (f"{lacking} is not installed (make ceph)" if lacking
              else "" if os.environ.get("LUNETTE_CEPH") else "takes a Ceph cluster and a minute: make ceph")
    for item in items:
        if reason and Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """One monitor and one OSD in memory, started once."""
    with tempfile.TemporaryDirectory(prefix="lntceph", dir="/dev/shm") as directory:
        one = Cluster(Path(directory))
        yield one
        one.close()


@pytest.fixture(scope="module")
def emptied(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster; what a module's tests leave there goes with them."""
    yield cluster
    cluster.empty()


class Images:
    """Pools on a cluster and the gateways that serve them."""

    def __init__(self, cluster: Cluster, directory: Path) -> None:
        self.cluster = cluster
        self._directory = directory
        self._made: list[DaemonProcess] = []

    def gateway(self, *options: str, size: str = "256M", **more: Any) -> DaemonProcess:
        """A gateway of a new pool, not started."""
        place = self.cluster.place(f"t{next(_numbers)}")
        daemon = DaemonProcess(self._directory, *options, size=size, pool=place, **more)
        self._made.append(daemon)
        return daemon

    def another(self, daemon: DaemonProcess, *options: str) -> DaemonProcess:
        """Another gateway for the same pool, not started."""
        one = daemon.another(*options)
        self._made.append(one)
        return one

    def close(self) -> None:
        for daemon in self._made:
            daemon.close()


@pytest.fixture
def images(emptied: Cluster, tmp_path: Path) -> Iterator[Images]:
    made = Images(emptied, tmp_path)
    yield made
    made.close()
