"""A reactor on a small pool, for the tests of the data plane."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.wire import Rig, rig


@pytest.fixture
def r(tmp_path: Path) -> Iterator[Rig]:
    with rig(tmp_path / "pool") as made:
        yield made
