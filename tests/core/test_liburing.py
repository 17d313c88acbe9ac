"""The library that the reactors call io_uring by: pyuring's, or another one, which must be new enough."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from core.wire.liburing import uring_library

START = """
import sys
from pathlib import Path
from tests.support.wire import rig, alive
with rig(Path(sys.argv[1])) as r:
    alive(r.wire())
print(any(sys.argv[2] in line for line in open('/proc/self/maps')))
"""


def started(tmp_path: Path, library: str, shown: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", START, str(tmp_path / "pool"), shown], capture_output=True, text=True,
                          env={**os.environ, "LUNETTE_LIBURING": library, "PYTHONPATH": "."}, cwd=Path(__file__).parents[2])


def test_another_library_is_used_where_it_is_named(tmp_path: Path) -> None:
    other = tmp_path / "another.so"
    shutil.copy(os.fsdecode(uring_library()), other)
    done = started(tmp_path, str(other), str(other))
    assert (done.stdout, done.returncode) == ("True\n", 0), done.stderr


@pytest.mark.parametrize("library", ["libc.so.6", "/nowhere/liburing.so"])
def test_a_library_that_lacks_calls_is_refused_in_one_line(tmp_path: Path, library: str) -> None:
    done = started(tmp_path, library, library)
    assert done.stderr.splitlines()[-1] == (
        f"OSError: cannot use {library} (LUNETTE_LIBURING={library}): liburing 2.4 or newer is needed")


def test_the_system_s_is_found_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LUNETTE_LIBURING", "system")
    assert uring_library() == b"liburing.so.2"
