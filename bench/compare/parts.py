"""The micro-benchmarks as a suite: runs `bench/test_*.py` under pytest-benchmark and keeps its numbers."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from bench.measure import Run
from bench.targets import ROOT, TargetError


def micro(run: Run) -> None:
    """Nanoseconds an operation of the core's parts, beside what the machine allows."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "micro.json"
        done = subprocess.run([sys.executable, "-m", "pytest", "-q", "bench", "--benchmark-disable-gc",
                               f"--benchmark-json={path}"], cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode or not path.exists():
            raise TargetError(f"pytest bench ended with {done.returncode}: {done.stdout.strip().splitlines()[-1:]}")
        for entry in json.loads(path.read_text())["benchmarks"]:
            info = entry["extra_info"]
            run.add(case=entry["name"].removeprefix("test_"), target="lunette", rep=0,
                    **{k: info[k] for k in ("ns_per_op", "ns_best", "limit", "limit_ns")})
