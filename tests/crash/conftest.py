"""Options of the crash suite: how much of it runs, and from which seed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("crash")
    group.addoption("--crash-full", action="store_true", default=bool(os.environ.get("CRASH_FULL")),
                    help="run the exhaustive crash suites whole (half an hour), not their quick subset")
    group.addoption("--crash-seed", type=int, default=int(os.environ.get("CRASH_SEED", "1")),
                    help="first seed of the seeded crash tests")
    group.addoption("--crash-seeds", type=int, default=int(os.environ.get("CRASH_SEEDS", "0")),
                    help="how many seeds to run (0: the quick number)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Whole suites take their time, however busy the machine is."""
    if config.getoption("--crash-full", default=False) or os.environ.get("CRASH_FULL"):
        for item in items:
            if Path(item.fspath).parent == Path(__file__).parent and item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(3600))


@pytest.fixture(scope="session")
def crash_full(pytestconfig: pytest.Config) -> bool:
    return bool(pytestconfig.getoption("--crash-full", default=False) or os.environ.get("CRASH_FULL"))


@pytest.fixture(scope="session")
def first_seed(pytestconfig: pytest.Config) -> int:
    return int(pytestconfig.getoption("--crash-seed", default=None) or os.environ.get("CRASH_SEED", "1"))


@pytest.fixture(scope="session")
def seed_count(pytestconfig: pytest.Config) -> int:
    return int(pytestconfig.getoption("--crash-seeds", default=None) or os.environ.get("CRASH_SEEDS", "0"))
