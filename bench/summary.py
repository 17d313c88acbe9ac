"""Medians, spread and ratios of raw records; the tables people read."""

import statistics
from collections.abc import Iterable
from typing import Any

from tabulate import tabulate

from bench.measure import Record

BASELINE = "tgt"
# what a ratio in the tables is to: the first of these that is there
BASELINES = (BASELINE, "fio io_uring", "volume without snapshots", "512 MiB")
KEY = ("suite", "case", "medium", "x")


def median(records: Iterable[Record], field: str) -> float:
    """Median of a field over the records that have it; nan when none has."""
    values = [r[field] for r in records if field in r]
    return statistics.median(values) if values else float("nan")


def spread(records: Iterable[Record], field: str) -> float:
    """(largest - smallest) / median: how far to trust the median."""
    values = [r[field] for r in records if field in r]
    middle = statistics.median(values) if values else 0.0
    return (max(values) - min(values)) / middle if middle else 0.0


def paired_ratio(ours: list[Record], theirs: list[Record], field: str = "iops") -> float:
    """Median over repetitions of ours / theirs, each pair measured side by side; nan without pairs."""
    base = {r.get("rep"): r[field] for r in theirs if r.get(field)}
    pairs = [r[field] / base[r.get("rep")] for r in ours if field in r and r.get("rep") in base]
    return statistics.median(pairs) if pairs else float("nan")


def groups(records: Iterable[Record]) -> dict[tuple[Any, ...], dict[str, list[Record]]]:
    """Records by (suite, case, medium, x), then by target, in the order measured."""
    found: dict[tuple[Any, ...], dict[str, list[Record]]] = {}
    for record in records:
        key = tuple(record.get(k, "") for k in KEY)
        found.setdefault(key, {}).setdefault(record.get("target", ""), []).append(record)
    return found


def rows(records: list[Record]) -> list[dict[str, Any]]:
    """One row a (case, medium, target): medians, spread, ratio to tgt (or another of BASELINES) in the same run."""
    table = []
    for key, by_target in groups(records).items():
        reference = next((name for name in BASELINES if name in by_target), "")
        base = by_target.get(reference)
        for target, found in by_target.items():
            row: dict[str, Any] = {k: v for k, v in zip(KEY, key, strict=True) if v != ""}
            row |= {"target": target, "n": len(found)}
            for field in ("iops", "mib_s", "p50_us", "p99_us", "p999_us", "cpu_us_per_io",
                          "initiator_cpu_us_per_io", "syncs",
                          "sync_p50_us", "sync_p99_us", "foreign_cpu"):
                if any(field in r for r in found):
                    row[field] = median(found, field)
            for field in found[0]:
                if field not in row and isinstance(found[0][field], (int, float)) and field not in ("rep", "steal"):
                    row[field] = median(found, field)
                elif field == "limit":
                    row[field] = found[0][field]
            if len(found) > 1:
                row["spread"] = spread(found, "iops")
            if base is not None and target != reference:
                row["ratio"] = paired_ratio(found, base)
            table.append(row)
    return table


TEXT = ("case", "medium", "target", "limit")
REPEATED = ("case", "medium", "x")      # shown once in a block of rows


def show(value: str | float | None, field: str) -> str:
    """A cell: three figures are more than a noisy machine deserves."""
    if isinstance(value, str):
        return value
    if value is None or value != value:
        return ""
    if field in ("ratio", "fairness", "slowest", "to_steady", "worst_to_steady", "p99_to_steady", "of_none", "gain", "ideal",
                 "of_ideal", "of_ceiling", "p999_to_p50", "start_s"):
        return f"{value:.2f}"
    if field in ("spread", "foreign_cpu", "idle_cpu"):
        return f"{value * 100:.1f} %" if field == "idle_cpu" else f"{value * 100:.0f} %"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if value != int(value) else f"{int(value)}"


def table(found: list[dict[str, Any]], fields: dict[str, str], style: str = "simple") -> str:
    """Rows as a text (or `markdown`) table: columns nobody filled left out, what the row above says not said again."""
    used = [f for f in fields if any(f in row and row[f] == row[f] for row in found)]
    used = [f for f in used if f != "medium" or len({row.get(f) for row in found}) > 1]
    cells, above = [], [""] * len(used)
    for row in found:
        line = [show(row.get(f), f) for f in used]
        same = True
        shown = []
        for field, now, before in zip(used, line, above, strict=True):
            same = same and field in REPEATED and now == before
            shown.append("" if same else now)
        cells.append(shown)
        above = line
    right = [f not in TEXT for f in used]
    names = [fields[f] for f in used]
    if style == "markdown":
        rule = ["---:" if r else "---" for r in right]
        return "\n".join("| " + " | ".join(line) + " |" for line in [names, rule, *cells])
    drawn: str = tabulate(cells, names, tablefmt=style, disable_numparse=True,
                          colalign=["right" if r else "left" for r in right])
    return drawn
