"""The README's tour works by copy and paste: the block is run as it stands, but for its places."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.support.daemon import free_port

ROOT = Path(__file__).parents[2]


def test_the_tour_of_the_readme_runs(tmp_path: Path) -> None:
    block = re.search(r"## A tour\n+```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert block is not None
    tour = block[1]
    for there, here in (("$PWD/.venv/bin/lunette", f"'{sys.executable} -m target'"),
                        ("/srv/pool.lunette", f"{tmp_path}/tour.pool"),
                        (" --open ", f" --open --listen 127.0.0.1:{free_port()} ")):
        assert there in tour
        tour = tour.replace(there, here)
    script = f"set -e\nshopt -s expand_aliases\ntrap 'kill %1; wait' EXIT\nexport PYTHONPATH={ROOT}\n{tour}"
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr[-2000:]
    for name in ("web", "db", "web@now", "db@now", "web-test", "web@undo"):
        assert re.search(rf"^{name} ", done.stdout, re.MULTILINE), done.stdout
