"""Suites where the disk counts: sync-heavy load, a database-like mix, O_DIRECT beside fio's io_uring engine."""

from collections.abc import Callable
from dataclasses import replace

from bench import initiator
from bench.compare.basic import CASES, Case
from bench.compare.lab import PAIR, Lab
from bench.fio import Job
from bench.measure import Run
from bench.targets import Target, fill_file

WRITERS = 16
DATABASE_IOPS = 8000            # data of the database mix at one rate for all: what syncs take depends on what lies before them
# fio's libiscsi engine syncs as many *blocks* as the LUN has bytes, in 32 bits. From 4 GiB that is 0: all of it. Where it is
# not, targets refuse the sync as beyond the end, and fio goes on.
SYNC_LUN_MIB = 4096


def sync(run: Run) -> None:
    """fsync after each write, by 1 and 16 writers (group commit); a database: 70/30 8 KiB and a synced log."""
    for medium in run.media:
        with Lab(run, medium, pool_mib=2 * SYNC_LUN_MIB, only=PAIR) as lab:
            urls = lab.luns(SYNC_LUN_MIB, fill=False)
            for url in urls.values():
                initiator.fill(url, run.plan.size_mib)
            share = run.plan.size_mib // WRITERS

            def writers(url: str, count: int, share: int = share) -> list[Job]:
                return [Job(url, "randwrite", "4k", 1, f"{share}m", options={"fsync": 1, "offset": f"{share * i}m"})
                        for i in range(count)]

            def database(url: str, size: int = run.plan.size_mib, iops: int = 0) -> list[Job]:
                rate: dict[str, str | int] = {"rate_iops": f"{iops * 7 // 10},{iops * 3 // 10}"} if iops else {}
                data = Job(url, "randrw", "8k", 16, f"{size - 64}m", options={"offset": "64m", "rwmixread": 70, **rate})
                return [data, Job(url, "write", "8k", 1, "64m", options={"fsync": 1})]

            loads: dict[str, Callable[[str], list[Job]]] = {
                "fsync-1": lambda url: writers(url, 1), f"fsync-{WRITERS}": lambda url: writers(url, WRITERS),
                "database": database,
                f"database, {DATABASE_IOPS} data IOPS": lambda url: database(url, iops=DATABASE_IOPS)}
            for name, jobs in loads.items():
                run.compare(lab.targets, lambda t, jobs=jobs, urls=urls: jobs(urls[t.label]),  # type: ignore[misc]
                            case=name, medium=medium)


def direct(run: Run) -> None:
    """O_DIRECT storage: targets beside fio's io_uring engine on a file of the same size in the same directory."""
    medium = next((name for name in run.media if name != "tmpfs"), "")
    if not medium:
        run.note("direct: left out, no medium with O_DIRECT")
        return
    with Lab(run, medium, direct=True, only=(*PAIR, "spdk")) as lab:
        size = run.plan.size_mib
        urls = lab.luns(size)
        raw = lab.directory / "raw.img"
        fill_file(raw, size)
        for name in ("read-4k-qd1", "read-4k-qd32", "write-4k-qd32", "read-128k-qd8", "write-128k-qd8"):
            case = CASES[name]
            local = replace(case.job(str(raw), size), engine="io_uring", options={"direct": 1})

            def body(target: Target | None, rep: int, name: str = name, case: Case = case, local: Job = local) -> None:
                job = case.job(urls[target.label], size) if target else local
                run.io(target.pid if target else None, [job], case=name, medium=medium,
                       target=target.label if target else "fio io_uring", rep=rep)
            run.interleave([*lab.targets, None], body)
