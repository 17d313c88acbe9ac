"""What the data path promises, held against the results: met or missed, with the figure either way."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from bench import summary
from bench.measure import Record

Row = dict[str, Any]
WHERE = (("throughput", "tmpfs"), ("throughput", "ext4"), ("native", "tmpfs"), ("native", "ext4"))


@dataclass(frozen=True)
class Cell:
    """A goal that is measured on two media with two initiators."""

    text: str
    case: str
    field: str
    wanted: float
    at_most: bool = False


@dataclass(frozen=True)
class Goal:
    """A goal with figures of its own: find(rows) gives (what, value) pairs. wanted None: stated, not judged."""

    text: str
    wanted: float | None
    find: Callable[[list[Row]], Iterable[tuple[str, float]]]
    at_most: bool = False


CELLS = (
    Cell("4 KiB random read, QD 32: x tgt", "read-4k-qd32", "ratio", 4.5),
    Cell("4 KiB random write, QD 32: x tgt", "write-4k-qd32", "ratio", 4.0),
    Cell("4 KiB random read, QD 1: x tgt", "read-4k-qd1", "ratio", 2.4),
    Cell("128 KiB read, QD 8: x tgt", "read-128k-qd8", "ratio", 3.0),
    Cell("128 KiB write, QD 8: x tgt", "write-128k-qd8", "ratio", 3.0),
    Cell("target CPU of a 4 KiB read, QD 32 (us)", "read-4k-qd32", "cpu_us_per_io", 5.0, at_most=True),
)


def pick(rows: Iterable[Row], **wanted: Any) -> list[Row]:
    """The rows with these values."""
    return [row for row in rows if all(row.get(k) == v for k, v in wanted.items())]


def first_writes(rows: list[Row]) -> Iterable[tuple[str, float]]:
    for row in pick(rows, suite="first-write", target="lunette"):
        if "to_steady" in row:
            yield f"{row['case']} {row['medium']}", row["to_steady"]


def beside(rows: list[Row], suite: str, field: str) -> Iterable[tuple[str, float]]:
    """A figure beside work on the pool, of the same without it."""
    for row in pick(rows, suite=suite, target="lunette"):
        if field in row:
            yield f"{row['case'].removesuffix(', beside')} {row['medium']}", row[field]


def digests(rows: list[Row]) -> Iterable[tuple[str, float]]:
    for row in pick(rows, suite="digests", target="lunette", x="both"):
        yield row["case"], row["of_none"]


def snapshots(rows: list[Row]) -> Iterable[tuple[str, float]]:
    found = [row for row in pick(rows, suite="snapshots") if row["target"] != "lunette" and "ratio" in row
             and "clones" not in row["case"]]
    most = max((row["x"] for row in found), default=0)
    for row in pick(found, x=most):
        yield f"{row['case']} at {most:,}", row["ratio"]


def syncs(rows: list[Row]) -> Iterable[tuple[str, float]]:
    for row in pick(rows, suite="sync", target="lunette"):
        yield f"{row['case']} {row['medium']}", row.get("ratio", float("nan"))


def ceiling(rows: list[Row]) -> Iterable[tuple[str, float]]:
    for row in pick(rows, suite="ceiling", target="ceiling"):
        yield row["case"], row.get("ratio", float("nan"))


def of_ceiling(rows: list[Row]) -> Iterable[tuple[str, float]]:
    for row in pick(rows, suite="ceiling", target="lunette"):
        yield row["case"], row["of_ceiling"]


def many(rows: list[Row], depth: str = "") -> Iterable[tuple[str, float]]:
    """Totals of many sessions over that of one with `depth`; without, with the depth that each of the many has."""
    found = {row["case"]: row["iops"] for row in pick(rows, suite="sessions", target="lunette") if "iops" in row}
    for case, iops in found.items():
        own, mix = case.split(", ")[2:]
        one = found.get(f"1 session, 1 LUN, {depth or own}, {mix}")
        if one and not case.startswith("1 session"):
            yield case, iops / one


def spread_wide(rows: list[Row]) -> Iterable[tuple[str, float]]:
    """256 sessions of a LUN each over 16, of a LUN each and of as many LUNs together as the 256 have."""
    found = {row["case"]: row["iops"] for row in pick(rows, suite="sessions", target="lunette") if "iops" in row}
    for mix in ("0 % writes", "30 % writes"):
        wide = found.get(f"256 sessions, a LUN each, qd8, {mix}")
        for few in ("16 sessions, a LUN each", "16 sessions, 16 LUNs each"):
            base = found.get(f"{few}, qd8, {mix}")
            if wide and base:
                yield f"of {few}, {mix}", wide / base


def level(rows: list[Row]) -> Iterable[tuple[str, float]]:
    """One command at a time, of the quickest peer's rate."""
    for row in pick(rows, suite="lone", target="lunette"):
        peers = [r["iops"] for r in pick(rows, suite="lone", case=row["case"], medium=row["medium"]) if r["target"] != "lunette"]
        if peers:
            yield f"{row['case']} {row['medium']}", row["iops"] / max(peers)


def slowest(rows: list[Row]) -> Iterable[tuple[str, float]]:
    for row in pick(rows, suite="sessions", target="lunette"):
        if "slowest" in row and not row["case"].startswith("1 session"):
            yield row["case"], row["slowest"]


def direct(rows: list[Row]) -> Iterable[tuple[str, float]]:
    for row in pick(rows, suite="direct", target="lunette"):
        local = pick(rows, suite="direct", target="fio io_uring", case=row["case"])
        if local:
            yield row["case"], row["iops"] / local[0]["iops"]


def reactors(rows: list[Row]) -> Iterable[tuple[str, float]]:
    for row in pick(rows, suite="reactors"):
        if "of_ideal" in row and "iops" in row:
            yield row["case"], row["of_ideal"]


def idle(rows: list[Row]) -> Iterable[tuple[str, float]]:
    for row in pick(rows, suite="idle", target="lunette"):
        yield "one session", row["idle_cpu"] * 100


def of_case(rows: list[Row], case: str, field: str, target: str = "lunette") -> Iterable[tuple[str, float]]:
    """A figure of one step of data protection."""
    for row in pick(rows, suite="protect", target=target, case=case):
        if field in row:
            yield row["medium"], row[field]


def of_other(rows: list[Row], case: str, field: str, other: str, other_field: str,
             target: str = "lunette") -> Iterable[tuple[str, float]]:
    """One step's figure as a share of another one's, which is `target`'s."""
    for medium, value in of_case(rows, case, field):
        for found, base in of_case(rows, other, other_field, target):
            if found == medium and base:
                yield medium, value / base


def beyond_start(rows: list[Row], case: str) -> Iterable[tuple[str, float]]:
    """A step without the start of its command, as a share of fio's 1 MiB reads."""
    for row in pick(rows, suite="protect", target="lunette", case=case):
        for start in pick(rows, suite="protect", target="lunette", case="the start of a command", medium=row["medium"]):
            for medium, base in of_case(rows, "fio, 1 MiB reads of a file", "mib_s", "fio psync"):
                if medium == row["medium"] and base and row["took_s"] > start["took_s"]:
                    yield medium, row["stream_mib"] / (row["took_s"] - start["took_s"]) / base


def python_share(rows: list[Row]) -> Iterable[tuple[str, float]]:
    for row in pick(rows, suite="protect", target="lunette"):
        if "python_percent" in row and not row["case"].startswith(("nbdcopy", "qemu")):
            yield f"{row['case']} {row['medium']}", row["python_percent"]


GOALS = (
    Goal("the most that the system calls of fio's libiscsi allow: x tgt", None, ceiling),
    Goal("Lunette by fio, share of that", None, of_ceiling),
    Goal("first writes, share of steady state", 0.80, first_writes),
    Goal("writes beside space that comes back, share of steady state", 0.80, partial(beside, suite="reclaim", field="to_steady")),
    Goal("their p99, of steady state's", 3.0, partial(beside, suite="reclaim", field="p99_to_steady"), at_most=True),
    Goal("median second, share of without", 0.80, partial(beside, suite="schedule", field="to_steady")),
    Goal("worst second, share of without", 0.50, partial(beside, suite="schedule", field="worst_to_steady")),
    Goal("p99 of the median second, of without", 4.0, partial(beside, suite="schedule", field="p99_to_steady"), at_most=True),
    Goal("a whole send, MiB/s a core", 2048.0, partial(of_case, case="send, whole", field="per_core_mib_s")),
    Goal("a whole send, share of 1 MiB reads by iSCSI", 0.90, partial(
        of_other, case="send, whole", field="stream_mib_s", other="1 MiB reads by iSCSI", other_field="mib_s")),
    Goal("a whole send, share of fio's 1 MiB reads of a file there", 0.90, partial(
        of_other, case="send, whole", field="stream_mib_s", other="fio, 1 MiB reads of a file", other_field="mib_s",
        target="fio psync")),
    Goal("the same without the start of its command", 0.90, partial(beyond_start, case="send, whole")),
    Goal("a whole receive, share of fio's 1 MiB writes of a new file there", None, partial(
        of_other, case="receive, whole", field="stream_mib_s", other="fio, 1 MiB writes of a new file", other_field="mib_s",
        target="fio psync")),
    Goal("a whole receive, MiB/s: 0.7 of what a send is to do a core", 0.7 * 2048, partial(
        of_case, case="receive, whole", field="stream_mib_s")),
    Goal("a whole receive, share of a bare program's new pages", None, partial(
        of_other, case="receive, whole", field="stream_mib_s", other="a bare program: new pages of a file, summed up",
        other_field="stream_mib_s", target="pwrite")),
    Goal("a whole receive, share of send", None, partial(
        of_other, case="receive, whole", field="stream_mib_s", other="send, whole", other_field="stream_mib_s")),
    Goal("scattered 4 KiB sent, MiB/s", 500.0, partial(of_case, case="send, scattered 4 KiB", field="stream_mib_s")),
    Goal("the daemon's Python beside it (% of a core)", 2.0, python_share, at_most=True),
    Goal("a resume sends again (MiB)", 64.0, partial(beside, suite="protect", field="again_mib"), at_most=True),
    Goal("a publish beyond its syncs (ms)", 50.0, partial(beside, suite="protect", field="beyond_syncs_ms"), at_most=True),
    Goal("reads beside a stream, share of alone", 0.90, partial(beside, suite="protect", field="to_steady")),
    Goal("their p99, of alone", 1.5, partial(beside, suite="protect", field="p99_to_steady"), at_most=True),
    Goal("a replica's lag at 100 MB/s and an RPO of 5 s, p99 (s)", 12.0, partial(beside, suite="mirror", field="lag_p99_s"),
         at_most=True),
    Goal("Python beside that (% of a core)", 2.0, partial(beside, suite="mirror", field="python_percent"), at_most=True),
    Goal("promotion of 1 TiB (ms)", 1000.0, partial(beside, suite="mirror", field="promote_ms"), at_most=True),
    Goal("one command at a time, of the quicker of tgt and SPDK", 1.0, level),
    Goal("p99.9 of 70/30 at depth 16, of its p50", 10.0, partial(beside, suite="tails", field="p999_to_p50"), at_most=True),
    Goal("256 sessions, share of 16's total", 0.90, spread_wide),
    Goal("header and data digests, share of none", 0.75, digests),
    Goal("with snapshots, share of without", 0.95, snapshots),
    Goal("synced writes: x tgt", 1.0, syncs),
    Goal("64 sessions on 256 LUNs, share of one session's total at the same depth", 1.0, many),
    Goal("64 sessions on 256 LUNs, share of one session's total at depth 32", 1.0, partial(many, depth="qd32")),
    Goal("its slowest session, share of the mean", 0.5, slowest),
    Goal("idle CPU (% of a core)", 0.5, idle, at_most=True),
    Goal("O_DIRECT over the network, share of fio's io_uring without one", None, direct),
    Goal("two reactors, share of the ideal gain", None, reactors),
)


def judge(value: float, wanted: float | None, at_most: bool) -> str:
    """`4.61`, or `4.11 missed`."""
    if value != value:
        return ""
    shown = f"{value:.2f}"
    if wanted is None or (float(shown) <= wanted if at_most else float(shown) >= wanted):
        return shown
    return f"{shown} missed"


def tables(records: list[Record]) -> list[str]:
    """The two tables of goals as Markdown; nothing for what was not measured."""
    rows = summary.rows(records)
    first = []
    for cell in CELLS:
        found = [pick(rows, suite=suite, medium=medium, case=cell.case, target="lunette") for suite, medium in WHERE]
        values = [judge(f[0].get(cell.field, float("nan")), cell.wanted, cell.at_most) if f else "" for f in found]
        if any(values):
            first.append([cell.text, f"{'at most' if cell.at_most else 'at least'} {cell.wanted:g}", *values])
    second = []
    for goal in GOALS:
        pairs = [(what, judge(value, goal.wanted, goal.at_most)) for what, value in goal.find(rows) if value == value]
        if pairs:
            bound = "stated" if goal.wanted is None else f"{'at most' if goal.at_most else 'at least'} {goal.wanted:g}"
            second.append([goal.text, bound, "; ".join(f"{what} **{value}**" for what, value in pairs)])
    drawn = []
    if first:
        heads = [f"{'fio' if suite == 'throughput' else 'own initiator'}, {medium}" for suite, medium in WHERE]
        drawn.append(markdown(["goal", "wanted", *heads], first))
    if second:
        drawn.append(markdown(["goal", "wanted", "measured"], second))
    return drawn


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """A table without padding: it stays readable in a diff however long a cell gets."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
