"""Suites driven by the bench's own initiator: digests, and many sessions on many LUNs."""

from functools import partial
from typing import Any

from bench import initiator, procstat
from bench.compare.lab import PAIR, Lab
from bench.measure import Run
from bench.targets import Lunette, Target

SESSIONS, LUNS, LUN_MIB = 64, 256, 4
FEW = 16
DIGESTS = {"none": "", "header": "header", "data": "data", "both": "header+data"}
LOADS: dict[str, dict[str, Any]] = {
    "read-4k-qd32": {"write_percent": 0, "block_bytes": 4096, "depth": 32},
    "write-4k-qd32": {"write_percent": 100, "block_bytes": 4096, "depth": 32},
    "read-128k-qd8": {"write_percent": 0, "block_bytes": 128 << 10, "depth": 8},
    "write-128k-qd8": {"write_percent": 100, "block_bytes": 128 << 10, "depth": 8},
}


def digests(run: Run) -> None:
    """The same load without digests, with header, data and both; each ratio against `none` of the same repetition."""
    with Lab(run, "tmpfs", digests=True, only=PAIR) as lab:
        urls = lab.luns(run.plan.size_mib)
        refused: set[tuple[str, str]] = set()
        for case, load in LOADS.items():
            base: dict[tuple[str, int], float] = {}

            def body(target: Target, rep: int, case: str = case, load: dict[str, Any] = load,
                     base: dict[tuple[str, int], float] = base) -> None:
                for name, wanted in DIGESTS.items():
                    if name in ("header", "data") and "128k" in case:
                        continue        # what each costs by itself is seen at 4 KiB
                    if (target.label, name) in refused:
                        continue
                    try:
                        with initiator.Load([[urls[target.label]]], digests=wanted) as sessions:
                            record = run.load(target.pid, partial(
                                sessions.drive, run.plan.seconds, size_mib=run.plan.size_mib, **load),
                                case=case, medium="tmpfs", x=name, target=target.label, rep=rep)
                    except initiator.LoginError as error:
                        refused.add((target.label, name))
                        run.note(f"digests: {target.label}, {name}: {error}")
                        continue
                    base.setdefault((target.label, rep), record["iops"])
                    record["of_none"] = record["iops"] / base[target.label, rep]
            run.interleave(lab.targets, body)


def make_luns(target: Target, count: int) -> list[str]:
    """`count` small LUNs, each written once; their URLs."""
    if isinstance(target, Lunette):
        target.batch([f"create v{i} --size {LUN_MIB}M" for i in range(count)])
        by_name = target.urls()
        urls = [by_name[f"v{i}"] for i in range(count)]
        for url in urls:
            initiator.fill(url, LUN_MIB)
        return urls
    return [target.add_lun(f"v{i}", LUN_MIB) for i in range(count)]


def jain(values: list[float]) -> float:
    """Jain's fairness index: 1 when all are equal, 1/n when one has everything."""
    squares = len(values) * sum(v * v for v in values)
    return sum(values) ** 2 / squares if squares else 0.0


def sessions(run: Run) -> None:
    """One session against 64 sessions that each use all of 256 LUNs: total, fairness, memory of an idle session."""
    with Lab(run, "tmpfs", pool_mib=LUNS * LUN_MIB * 2 + 512, only=PAIR) as lab:
        urls = {t.label: make_luns(t, LUNS) for t in lab.targets}
        for target in lab.targets:
            before = procstat.rss_bytes(target.pid)
            opened = initiator.idle(urls[target.label], SESSIONS)
            grown = procstat.rss_bytes(target.pid) - before
            for session in opened:
                session.sock.close()
            run.add(case="idle sessions", x=SESSIONS, target=target.label, rep=0,
                    kib_per_session=grown / SESSIONS / 1024)
        shapes = {f"1 session, 1 LUN, qd{depth}": ([slice(0, 1)], depth) for depth in (1, 8, 32)}
        shapes |= {f"{SESSIONS} sessions, {LUNS} LUNs, qd{depth}": ([slice(0, LUNS)] * SESSIONS, depth) for depth in (1, 8)}
        share = LUNS // FEW     # of all that 256 sessions touch: more of it than the processor's caches hold
        shapes[f"{FEW} sessions, {share} LUNs each, qd8"] = ([slice(i, i + share) for i in range(0, LUNS, share)], 8)
        shapes |= {f"{count} sessions, a LUN each, qd8": ([slice(i, i + 1) for i in range(count)], 8) for count in (FEW, LUNS)}
        for case, (groups, depth) in shapes.items():
            for write_percent in (0, 30):
                def body(target: Target, rep: int, case: str = case, groups: list[slice] = groups, depth: int = depth,
                         write_percent: int = write_percent) -> None:
                    mine = urls[target.label]
                    with initiator.Load([mine[g] for g in groups]) as load:
                        record = run.load(target.pid, partial(
                            load.drive, run.plan.seconds, write_percent=write_percent, block_bytes=4096, depth=depth,
                            size_mib=LUN_MIB), case=f"{case}, {write_percent} % writes", medium="tmpfs",
                            target=target.label, rep=rep)
                    shares = [float(v) for v in record.get("job_iops", [])]
                    record["fairness"] = jain(shares)
                    record["slowest"] = min(shares) / (sum(shares) / len(shares)) if sum(shares) else 0.0
                run.interleave(lab.targets, body)
