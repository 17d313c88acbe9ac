"""Tables for the terminal and for docs/benchmarks.md, from results files."""

import json
import re
import textwrap
from pathlib import Path
from typing import Any

from bench import goals, plots, summary
from bench.targets import ROOT

PAGE = ROOT / "docs/benchmarks.md"
IMAGES = ROOT / "docs/images"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
HEADINGS = {
    "case": "case", "medium": "medium", "x": "x", "target": "target", "rate": "rate", "spread": "spread", "ratio": "ratio",
    "to_steady": "of steady", "worst_to_steady": "worst second", "worst_iops": "worst second /s",
    "p99_to_steady": "p99 of steady", "worst_p99_us": "worst p99 us", "back_mib_s": "back MiB/s", "back_mib": "back MiB",
    "back_s": "in s", "of_none": "of none", "gain": "gain", "ideal": "ideal gain", "of_ideal": "of ideal",
    "of_ceiling": "of ceiling", "stream_mib": "MiB", "stream_mib_s": "MiB/s", "took_s": "s", "target_cpu_s": "target CPU s",
    "per_core_mib_s": "MiB/s a core",
    "lag_p50_s": "lag p50 s", "lag_p99_s": "lag p99 s", "skipped": "skipped", "python_percent": "Python % of a core",
    "replica_python_percent": "replica's", "demote_ms": "demote ms", "promote_ms": "promote ms",
    "again_mib": "sent again MiB", "publish_ms": "publish ms", "beyond_syncs_ms": "beyond syncs ms",
    "medium_syncs": "medium's syncs",
    "p999_to_p50": "p99.9 of p50", "checkpoints": "checkpoints", "pool_syncs": "pool's syncs",
    "p50_us": "p50 us", "p99_us": "p99 us", "p999_us": "p99.9 us", "cpu_us_per_io": "target us/IO",
    "initiator_cpu_us_per_io": "initiator us/IO", "syncs": "syncs", "sync_p50_us": "sync p50 us", "sync_p99_us": "sync p99 us",
    "fairness": "fairness", "slowest": "slowest/mean", "kib_per_session": "KiB/session", "idle_cpu": "CPU idle",
    "rss_mib": "memory MiB", "create_ms": "create ms", "delete_ms": "delete ms", "batch_create_ms": "create ms (batch)",
    "batch_delete_ms": "delete ms (batch)", "list_ms": "list ms", "metadata_bytes": "metadata bytes", "mapped_mib": "mapped MiB",
    "start_s": "start s", "check_s": "check s", "ns_per_op": "ns/op", "limit_ns": "limit ns", "limit": "limit",
}
ALWAYS = ("case", "medium", "x", "target", "rate", "ratio")
COLUMNS = {     # beside ALWAYS, what carries something in rows with a rate; None: everything
    "throughput": ("spread", "p50_us", "p99_us", "cpu_us_per_io", "initiator_cpu_us_per_io"),
    "native": ("spread", "p50_us", "p99_us", "cpu_us_per_io", "initiator_cpu_us_per_io"),
    "ceiling": ("spread", "of_ceiling", "cpu_us_per_io", "initiator_cpu_us_per_io"),
    "depth": ("p99_us", "cpu_us_per_io"),
    "latency": ("p50_us", "p99_us", "p999_us", "cpu_us_per_io"),
    "lone": ("spread", "p50_us", "p99_us", "p999_us", "sync_p50_us", "sync_p99_us", "cpu_us_per_io"),
    "tails": ("p50_us", "p99_us", "p999_us", "p999_to_p50", "checkpoints", "pool_syncs", "cpu_us_per_io"),
    "first-write": ("to_steady", "spread", "p99_us", "cpu_us_per_io"),
    "reclaim": ("to_steady", "p99_us", "p99_to_steady", "back_mib_s", "cpu_us_per_io"),
    "protect": ("to_steady", "p99_us", "p99_to_steady", "cpu_us_per_io"),
    "aging": ("to_steady", "p99_us", "cpu_us_per_io"),
    "schedule": ("to_steady", "worst_iops", "worst_to_steady", "p99_us", "p99_to_steady"),
    "snapshots": ("spread", "p50_us", "p99_us", "cpu_us_per_io"),
    "sync": ("spread", "sync_p50_us", "sync_p99_us", "cpu_us_per_io"),
    "digests": ("of_none", "p99_us", "cpu_us_per_io", "initiator_cpu_us_per_io"),
    "sessions": ("fairness", "slowest", "p99_us", "cpu_us_per_io", "initiator_cpu_us_per_io"),
    "direct": ("spread", "p50_us", "p99_us", "cpu_us_per_io"),
    "reactors": ("gain", "ideal", "of_ideal", "cpu_us_per_io", "initiator_cpu_us_per_io"),
    "tebibyte": ("p50_us", "p99_us", "cpu_us_per_io", "rss_mib"),
}
rows = summary.rows


def tables(suite: str, found: list[dict[str, Any]], style: str) -> list[str]:
    """A suite's rows as tables: those with a rate in their columns, the others with whatever they have."""
    def having(rated: bool) -> list[dict[str, Any]]:
        return [with_rate(row) for row in found if ("iops" in row) == rated]
    drawn = []
    if having(True):
        chosen = {*ALWAYS, *COLUMNS.get(suite, HEADINGS)}
        drawn.append(summary.table(having(True), {k: v for k, v in HEADINGS.items() if k in chosen}, style))
    if having(False):
        drawn.append(summary.table(having(False), HEADINGS, style))
    return drawn


def with_rate(row: dict[str, Any]) -> dict[str, Any]:
    """The row with `rate`: MiB/s where blocks are large, else operations a second."""
    if "iops" not in row:
        return row
    if re.search(r"\b(128k|1m)\b", row["case"]):
        return row | {"rate": f"{row['mib_s']:,.0f} MiB/s"}
    return row | {"rate": f"{row['iops']:,.0f} /s"}


def by_suite(found: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    suites: dict[str, list[dict[str, Any]]] = {}
    for row in found:
        suites.setdefault(row["suite"], []).append(row)
    return suites


def text(found: dict[str, Any]) -> str:
    """What a terminal shows after a run."""
    parts = [f"{name}\n" + "\n\n".join(tables(name, of, "simple")) for name, of in by_suite(found["summary"]).items()]
    return "\n\n".join(parts + [f"note: {n}" for n in found["notes"]])


def newest(directory: Path) -> list[Path]:
    """The newest results file of each suite in a directory, in the order they were measured."""
    latest: dict[str, tuple[str, Path]] = {}
    for path in directory.glob("*.json"):
        found = json.loads(path.read_text())
        for suite in {record["suite"] for record in found["records"]}:
            latest[suite] = max(latest.get(suite, ("", path)), (found["date"], path))
    return sorted({path for _, path in latest.values()}, key=lambda p: str(json.loads(p.read_text())["date"]))


def publish(paths: list[Path]) -> None:
    """Write the measured part of docs/benchmarks.md and the plots; later files replace the suites of earlier ones."""
    files = [(path, json.loads(path.read_text())) for path in paths]
    latest: dict[str, tuple[Path, dict[str, Any]]] = {}
    for path, found in files:
        for record in found["records"]:
            latest[record["suite"]] = (path, found)
    lines: list[str] = []
    records: list[Any] = []
    for suite, (path, found) in sorted(latest.items(), key=lambda item: place(item[0])):
        mine = [r for r in found["records"] if r["suite"] == suite]
        records += mine
        said = textwrap.fill(source(path, found), 118, break_long_words=False, break_on_hyphens=False)
        lines += ["", f"### {suite}", "", said, ""]
        lines += "\n\n".join(tables(suite, summary.rows(mine), "markdown")).splitlines()
        notes = [f"- {note}" for note in found["notes"] if note.startswith(suite)]
        lines += ["", *notes] if notes else []
    images = [f"![{path.stem}](images/{path.name})" for path in plots.draw_all(records, IMAGES)]
    held = "\n\n".join(goals.tables(records))
    body = "\n".join([BEGIN, "", "### goals", "", held, *lines, "", "### plots", "", *images, END])
    page = PAGE.read_text()
    PAGE.write_text(re.sub(re.escape(BEGIN) + ".*" + re.escape(END), lambda _: body, page, flags=re.S))
    print(f"wrote {PAGE} and {len(images)} plots")
    unused = sorted(p.name for p in paths[0].parent.glob("*.json") if p not in {path for path, _ in latest.values()})
    if unused:
        print(f"not used any more: {', '.join(unused)}")


def place(suite: str) -> int:
    """Where a suite stands on the page."""
    from bench.compare import SUITES  # it imports modules that import this one

    return list(SUITES).index(suite) if suite in SUITES else len(SUITES)


def source(path: Path, found: dict[str, Any]) -> str:
    """When, on what and with what a suite was measured."""
    machine = found["machine"]
    parts = [found["date"], found["mode"], f"{machine['cpus']} x {machine['cpu']}, Linux {machine['kernel']}",
             f"load before {machine['load_before']:.1f}", *found["versions"].values(),
             *(f"{medium}: {options}" for medium, options in found.get("media_options", {}).items()),
             f"raw: [{path.name}](../bench/results/{path.name})"]
    return "; ".join(parts)
