"""`python -m bench [SUITE ...]`: run suites side by side with peers, keep raw JSON, print tables, draw plots.

Without arguments every suite runs, in about 45 minutes, and docs/benchmarks.md is written anew from the results.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from bench import clients, fio, initiator, machine, measure, report
from bench.compare import SUITES
from bench.targets import ROOT, TargetError

RESULTS = ROOT / "bench/results"
KINDS = ("lunette", "tgt", "istgt", "spdk")


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


def targets(text: str, running: list[str]) -> dict[str, str]:
    """`tgt,lunette` or `tgt,tgt` (a sanity run: ratios near 1) as {label: kind}; running: NAME=URL,PID."""
    found: dict[str, str] = {}
    for kind in text.split(","):
        if kind not in KINDS:
            raise SystemExit(f"bench: no target {kind!r}: {', '.join(KINDS)}")
        found[kind if kind not in found else f"{kind}-{sum(k == kind for k in found.values()) + 1}"] = kind
    for entry in running:
        name, _, where = entry.partition("=")
        if not (name and where.startswith("iscsi://") and where.rpartition(",")[2].isdigit()):
            raise SystemExit(f"bench: --running NAME=iscsi://ADDRESS:PORT/TARGET/LUN,PID, not {entry!r}")
        found[name] = where
    return found


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"of: {', '.join(SUITES)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="under three minutes, fewer suites; docs stay as they are")
    parser.add_argument("--resume", action="store_true", help="leave out suites that have a whole result of this commit, today")
    parser.add_argument("--targets", default=",".join(KINDS), help="comma-separated kinds (default %(default)s)")
    parser.add_argument("--running", action="append", default=[], metavar="NAME=URL,PID",
                        help="also a target that already runs, SPDK for instance; its LUN is written to")
    parser.add_argument("--media", default="", help="comma-separated: tmpfs, ext4 (default: all; --quick: tmpfs)")
    parser.add_argument("--seconds", type=float, help="length of one timed run")
    parser.add_argument("--repeats", type=int, help="how often each case is measured on each target")
    parser.add_argument("--size-mib", type=int, help="size of a LUN")
    parser.add_argument("--nice", type=int, default=0, help="priority of initiator and targets alike, on a shared machine "
                        "(root; for instance -19)")
    parser.add_argument("--out", type=Path, help="directory of the results (default bench/results; --quick: run/bench)")
    parser.add_argument("--report", type=Path, nargs="*", metavar="JSON",
                        help="measure nothing: write docs/benchmarks.md and its plots from results files "
                        "(default: the newest of each suite in bench/results)")
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
    plan = measure.QUICK if options.quick else measure.PUBLISHED
    for name in ("seconds", "repeats", "size_mib"):
        if getattr(options, name):
            setattr(plan, name, getattr(options, name))
    if options.repeats:
        plan.key_repeats = options.repeats
    if options.seconds or options.repeats or options.size_mib:
        plan.mode = "own"
    wanted = options.media.split(",") if options.media else ["tmpfs"] if options.quick else list(media())
    return measure.Run(plan, {k: v for k, v in media().items() if k in wanted}, targets(options.targets, options.running))


def run_suite(run: measure.Run, name: str) -> dict[str, Any]:
    """Run one suite into empty records; what its results file holds."""
    run.suite, run.records, run.notes, run.versions = name, [], [], {}
    started, clock, complete = datetime.now(UTC), time.monotonic(), True
    before = machine.describe()
    try:
        SUITES[name].body(run)
    except (fio.FioError, TargetError, initiator.LoginError, OSError) as error:
        run.note(f"{name}: stopped: {error}")
        complete = False
    return {
        "schema": 2, "suite": name, "complete": complete, "date": started.isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - clock), "mode": run.plan.mode, "nice": os.nice(0), "plan": vars(run.plan),
        "commit": machine.lunette_version(), "machine": before,
        "media": {k: machine.filesystem_of(v) for k, v in run.media.items()},
        "media_options": {k: machine.filesystem_options(v) for k, v in run.media.items()},
        "versions": run.versions | {"initiator": clients.description()},
        "notes": run.notes, "records": run.records, "summary": report.rows(run.records),
    }


def done_already(path: Path, mode: str) -> bool:
    """Whether a whole result of this commit and mode lies there."""
    if not path.exists():
        return False
    found, commit = json.loads(path.read_text()), machine.lunette_version()
    return bool(found.get("complete")) and found["mode"] == mode and found["commit"].rstrip("+") == commit.rstrip("+")


def stop(number: int, _: object) -> NoReturn:
    """End by way of everyone's `finally`, so that no target stays behind."""
    signal.signal(number, signal.SIG_IGN)
    sys.exit(128 + number)


def main() -> int:
    options = arguments()
    signal.signal(signal.SIGTERM, stop)
    if options.report is not None:
        report.publish(options.report or report.newest(RESULTS))
        return 0
    unknown = [s for s in options.suites if s not in SUITES]
    if unknown:
        print(f"bench: no suite {unknown[0]!r}: {', '.join(SUITES)}", file=sys.stderr)
        return 2
    run = prepare(options)
    if options.nice:
        prioritise(options.nice)
    chosen = options.suites or [n for n, s in SUITES.items() if s.quick or not options.quick]
    directory = options.out or (ROOT / "run/bench" if options.quick else RESULTS)
    directory.mkdir(parents=True, exist_ok=True)
    incomplete = 0
    for name in chosen:
        path = directory / f"{datetime.now(UTC):%Y-%m-%d}-{name}.json"
        if options.resume and done_already(path, run.plan.mode):
            print(f"{name}: there already: {path}", file=sys.stderr)
            continue
        print(f"{name}: {(SUITES[name].body.__doc__ or '').splitlines()[0]}", file=sys.stderr, flush=True)
        found = run_suite(run, name)
        path.write_text(json.dumps(found, indent=1) + "\n")
        incomplete += not found["complete"]
        print(f"{report.text(found)}\n\n{name}: {found['seconds']} s, raw results: {path}\n", flush=True)
    if run.plan.mode == "published" and not options.suites and directory == RESULTS:
        report.publish(report.newest(RESULTS))
    return 1 if incomplete else 0


if __name__ == "__main__":
    sys.exit(main())
