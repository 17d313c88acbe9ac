"""`python -m bench [SUITE ...]`: run suites side by side with peers, keep raw JSON, print tables, draw plots."""

import argparse
import json
import os
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import fio, initiator, machine, measure, report
from bench.compare import SUITES
from bench.targets import ROOT, TargetError

PLANS = {"quick": measure.QUICK, "normal": measure.NORMAL, "full": measure.FULL}


def media() -> dict[str, Path]:
    """Directories by medium: memory, and a page-cached file on the disk behind $TMPDIR or ./run."""
    found = {"tmpfs": Path("/dev/shm")}
    for candidate in (Path(os.environ.get("TMPDIR", "")) if os.environ.get("TMPDIR") else None, ROOT / "run",
                      Path(tempfile.gettempdir())):
        if candidate is None:
            continue
        candidate.mkdir(parents=True, exist_ok=True)
        if machine.filesystem_of(candidate) not in ("tmpfs", "ramfs", "overlayfs", "UNKNOWN"):
            found["ext4" if "ext" in machine.filesystem_of(candidate) else machine.filesystem_of(candidate)] = candidate
            break
    return found


def targets(text: str) -> dict[str, str]:
    """`tgt,lunette` or `tgt,tgt` (a sanity run: ratios near 1) as {label: kind}."""
    found: dict[str, str] = {}
    for kind in text.split(","):
        if kind not in ("tgt", "lunette"):
            raise SystemExit(f"bench: no target {kind!r}: tgt, lunette")
        found[kind if kind not in found else f"{kind}-{sum(k == kind for k in found.values()) + 1}"] = kind
    return found


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"of: {', '.join(SUITES)} (default: all)")
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument("--quick", action="store_const", const="quick", dest="mode", help="under three minutes")
    modes.add_argument("--full", action="store_const", const="full", dest="mode", help="what gets published")
    parser.add_argument("--targets", default="lunette,tgt", help="comma-separated kinds (default %(default)s)")
    parser.add_argument("--media", default="", help="comma-separated: tmpfs, ext4 (default: all; --quick: tmpfs)")
    parser.add_argument("--seconds", type=float, help="length of one timed run")
    parser.add_argument("--repeats", type=int, help="how often each case is measured on each target")
    parser.add_argument("--size-mib", type=int, help="size of a LUN")
    parser.add_argument("--nice", type=int, default=0, help="priority of initiator and targets alike, on a shared machine "
                        "(root; for instance -19)")
    parser.add_argument("--out", type=Path, help="results file (default bench/results/DATE-MODE.json)")
    parser.add_argument("--report", type=Path, nargs="+", metavar="JSON",
                        help="measure nothing: write docs/benchmarks.md and its plots from results files")
    return parser.parse_args()


def prioritise(nice: int) -> None:
    """This process and all it starts at a priority of their own, also where the scheduler groups by session."""
    os.setpriority(os.PRIO_PROCESS, 0, nice)
    group = Path("/proc/self/autogroup")
    if group.exists():
        if os.getpid() != os.getpgid(0):    # a leader of a process group may not found a session
            os.setsid()
        group.write_text(str(nice))


def prepare(options: argparse.Namespace) -> measure.Run:
    plan = PLANS[options.mode or "normal"]
    for name in ("seconds", "repeats", "size_mib"):
        if getattr(options, name):
            setattr(plan, name, getattr(options, name))
    wanted = options.media.split(",") if options.media else ["tmpfs"] if plan.mode == "quick" else list(media())
    return measure.Run(plan, {k: v for k, v in media().items() if k in wanted}, targets(options.targets))


def results(run: measure.Run, started: datetime, seconds: float) -> dict[str, Any]:
    return {
        "schema": 1, "date": started.isoformat(timespec="seconds"), "seconds": round(seconds),
        "mode": run.plan.mode, "nice": os.nice(0), "plan": vars(run.plan), "machine": machine.describe(),
        "media": {k: machine.filesystem_of(v) for k, v in run.media.items()},
        "versions": run.versions | {"fio": f"{machine.first_line(fio.find(), '--version')} (engine libiscsi)"},
        "notes": run.notes, "records": run.records, "summary": report.rows(run.records),
    }


def main() -> int:
    options = arguments()
    if options.report:
        report.publish(options.report)
        return 0
    unknown = [s for s in options.suites if s not in SUITES]
    if unknown:
        print(f"bench: no suite {unknown[0]!r}: {', '.join(SUITES)}", file=sys.stderr)
        return 2
    run = prepare(options)
    if options.nice:
        prioritise(options.nice)
    started, clock = datetime.now(UTC), time.monotonic()
    chosen = options.suites or [n for n, s in SUITES.items() if run.plan.mode != "quick" or s.quick]
    for name in chosen:
        print(f"{name}: {(SUITES[name].body.__doc__ or '').splitlines()[0]}", file=sys.stderr, flush=True)
        run.suite = name
        try:
            SUITES[name].body(run)
        except (fio.FioError, TargetError, initiator.LoginError, OSError) as error:
            run.note(f"{name}: stopped: {error}")
    found = results(run, started, time.monotonic() - clock)
    path = options.out or ROOT / "bench/results" / f"{started:%Y%m%dT%H%M%S}-{run.plan.mode}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(found, indent=1) + "\n")
    print(report.text(found))
    print(f"\nraw results: {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
