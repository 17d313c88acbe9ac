"""The plots of docs/benchmarks.md."""

from pathlib import Path
from typing import Any

from bench import summary
from bench.measure import Record
from bench.svg import Chart, Series


def write(drawn: Chart, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(drawn.render())
    return path


def curve(records: list[Record], field: str) -> dict[str, dict[Any, float]]:
    """{target: {x: median of field}}."""
    found: dict[str, dict[Any, float]] = {}
    for (_, _, _, x), by_target in summary.groups(records).items():
        for target, group in by_target.items():
            if any(field in r for r in group):
                found.setdefault(target, {})[x] = summary.median(group, field)
    return found


def lines(records: list[Record], field: str, path: Path, title: str, x_title: str, y_title: str) -> Path | None:
    """A line a target over x; None when nothing was measured."""
    found = curve(records, field)
    xs = sorted({x for points in found.values() for x in points})
    if not xs:
        return None
    series: Series = {target: [points.get(x) for x in xs] for target, points in found.items()}
    return write(Chart(title, x_title, y_title, [f"{x:,}" for x in xs], series).lines(), path)


def latency(records: list[Record], path: Path, title: str) -> Path | None:
    """Percentiles as grouped bars, one group a percentile, one bar a (target, case); logarithmic."""
    percentiles = {"p50_us": "p50", "p99_us": "p99", "p999_us": "p99.9"}
    bars: Series = {f"{target}, {key[1].removeprefix('load ')}": [summary.median(group, p) for p in percentiles]
            for key, by_target in summary.groups(records).items() for target, group in by_target.items()}
    if not bars:
        return None
    return write(Chart(title, "percentile", "microseconds", list(percentiles.values()), bars, logarithmic=True).bars(), path)


def draw_all(records: list[Record], directory: Path) -> list[Path]:
    """Every plot the records allow."""
    def of(suite: str, case: str = "", medium: str = "") -> list[Record]:
        return [r for r in records if r["suite"] == suite and r.get("case", "").startswith(case)
                and r.get("medium", "").startswith(medium)]
    drawn = [
        lines(of("depth", "read"), "iops", directory / "iops-read.svg", "4 KiB random read", "queue depth", "IOPS"),
        lines(of("depth", "write"), "iops", directory / "iops-write.svg", "4 KiB random write", "queue depth", "IOPS"),
        latency(of("latency", "qd1"), directory / "latency-qd1.svg", "4 KiB random read latency, one at a time"),
        latency(of("latency", "load"), directory / "latency-load.svg", "4 KiB random read latency under load"),
    ]
    for case, field, title, unit in (
            ("read-4k-qd32", "iops", "4 KiB random read by number of snapshots", "IOPS"),
            ("write-4k-qd32", "iops", "4 KiB random write by number of snapshots", "IOPS"),
            ("read-4k-qd32", "p99_us", "Read p99 by number of snapshots", "microseconds"),
            ("write-4k-qd32", "p99_us", "Write p99 by number of snapshots", "microseconds"),
            ("snapshot", "create_ms", "Time to create a snapshot", "milliseconds"),
            ("snapshot", "delete_ms", "Time to delete a snapshot", "milliseconds"),
            ("snapshot", "metadata_bytes", "Metadata by number of snapshots", "bytes")):
        name = f"snapshots-{case.split('-')[0]}-{field.split('_')[0]}.svg"
        drawn.append(lines(of("snapshots", case), field, directory / name, title, "snapshots of the volume", unit))
    return [path for path in drawn if path]
