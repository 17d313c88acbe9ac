"""Daemons for the tests with real initiators; what is not installed skips its tests by name."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import libiscsi
from tests.support.daemon import DaemonProcess
from tests.support.guest import BOOT_SECONDS, BOOTS, Guest
from tests.support.guest_image import NoGuest
from tests.support.kernel_initiator import forget_everything
from tests.support.pair import Pair
from tests.support.places import pool_directory

Start = Callable[..., DaemonProcess]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "guest" in getattr(item, "fixturenames", ()) and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(BOOTS * BOOT_SECONDS + 300))
        for mark in item.iter_markers("needs"):
            for tool in mark.args:
                missing = libiscsi.lib is None if tool == "libiscsi" else shutil.which(tool) is None
                if missing:
                    item.add_marker(pytest.mark.skip(reason=f"{tool} is not installed (make clients)"))


@pytest.fixture(scope="module")
def pair_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where `daemons` lie."""
    with pool_directory(tmp_path_factory.mktemp("pair")) as place:
        yield place


@pytest.fixture(scope="module")
def daemons(pair_place: Path) -> Iterator[Pair]:
    """Two daemons that know each other."""
    made = Pair(pair_place).start()
    yield made
    made.close()


@pytest.fixture
def pair(daemons: Pair) -> Iterator[Pair]:
    """The two, with nothing in their pools."""
    yield daemons
    daemons.clear()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start daemons, each on a pool of its own; they are gone after the test."""
    made: list[DaemonProcess] = []
    with pool_directory(tmp_path) as place:

        def begin(*options: str, **more: Any) -> DaemonProcess:
            directory = place / f"daemon{len(made)}"
            directory.mkdir()
            daemon = DaemonProcess(directory, *options, **more)
            made.append(daemon)
            return daemon.start()

        yield begin
        for daemon in made:
            daemon.close()


@pytest.fixture
def daemon(start: Start) -> DaemonProcess:
    """One open daemon on loopback."""
    return start()


@pytest.fixture(scope="package")
def booted() -> Iterator[Guest]:
    """The machine with the kernel's initiator, booted once for all that want it."""
    try:
        guest = Guest()
    except NoGuest as reason:
        pytest.skip(str(reason))
    with guest:
        yield guest


@pytest.fixture
def guest(booted: Guest) -> Iterator[Guest]:
    """The same, without sessions or mounts of an earlier test."""
    yield booted
    forget_everything(booted)
