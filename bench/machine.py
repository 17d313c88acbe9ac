"""What a result was measured on: processor, kernel, memory, versions. Part of every results file."""

import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any


def first_line(*command: str) -> str:
    """The first line a command prints (either stream), or "" when there is no such command."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except FileNotFoundError:
        return ""
    return next(iter((done.stdout + done.stderr).strip().splitlines()), "")


def filesystem_of(path: Path) -> str:
    """Type of the file system that holds `path` (tmpfs, ext4 ...)."""
    return first_line("stat", "-f", "-c", "%T", str(path))


def filesystem_options(path: Path) -> str:
    """How the file system that holds `path` is mounted, and of ext4 whether it has a journal: both decide what a sync costs."""
    source, _, options = first_line("findmnt", "-n", "-r", "-o", "SOURCE,OPTIONS", "-T", str(path)).partition(" ")
    journal = Path("/sys/fs/ext4") / Path(source).resolve().name / "journal_task"
    if journal.exists():
        options += ", no journal" if journal.read_text().strip() == "<none>" else ", a journal"
    return options


def describe() -> dict[str, Any]:
    """Machine description for the results file; every value is a string or a number."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.M)
    flags = re.search(r"^flags\s*:\s*(.+)$", cpuinfo, re.M)
    wanted = ("sse4_2", "pclmulqdq", "avx2", "avx512f", "vpclmulqdq", "hypervisor")
    memory = re.search(r"^MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.M)
    return {
        "cpu": model[1] if model else platform.machine(),
        "cpus": os.cpu_count(),
        "cpu_flags": [f for f in wanted if flags and f in flags[1].split()],
        "memory_bytes": int(memory[1]) * 1024 if memory else 0,
        "kernel": platform.release(),
        "system": first_line("sh", "-c", ". /etc/os-release && echo $PRETTY_NAME"),
        "python": platform.python_version(),
        "load_before": os.getloadavg()[0],
    }


def lunette_version() -> str:
    """Commit of the checkout, with `+` when its code has local changes."""
    commit = first_line("git", "rev-parse", "--short=12", "HEAD")
    changed = first_line("git", "status", "--porcelain", "-uno", "--", ":/", ":(top,exclude)docs", ":(top,exclude)bench/results")
    return commit + ("+" if commit and changed else "")
