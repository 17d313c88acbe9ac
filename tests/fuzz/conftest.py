"""With LUNETTE_CHECKED the fuzzers refuse to run on a core that was built without sanitizers."""

import os
from pathlib import Path

from core.wire import reactor as _reactor


def pytest_configure() -> None:
    if os.environ.get("LUNETTE_CHECKED"):
        built = Path(_reactor.__file__)
        assert b"__asan_init" in built.read_bytes(), f"{built} was built without AddressSanitizer"
