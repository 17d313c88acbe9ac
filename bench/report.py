"""Tables for the terminal and for docs/benchmarks.md, from results files."""

import json
import re
from pathlib import Path
from typing import Any

from bench import plots, summary
from bench.targets import ROOT

PAGE = ROOT / "docs/benchmarks.md"
IMAGES = ROOT / "docs/images"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
EXTRA = {"to_steady": "of steady", "of_none": "of none",
         "idle_cpu": "CPU idle", "rss_mib": "RSS MiB", "batch_create_ms": "create ms (batch)",
         "batch_delete_ms": "delete ms (batch)",
         "start_s": "start s",
         "create_ms": "create ms", "delete_ms": "delete ms", "metadata_bytes": "metadata bytes",
         "syncs": "syncs", "sync_p50_us": "sync p50 us", "sync_p99_us": "sync p99 us",
         "ns_per_op": "ns/op", "limit_ns": "limit ns", "limit": "limit",
         "fairness": "fairness", "slowest": "slowest/mean", "kib_per_session": "KiB/session"}
rows = summary.rows


def by_suite(found: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    suites: dict[str, list[dict[str, Any]]] = {}
    for row in found:
        suites.setdefault(row["suite"], []).append(row)
    return suites


def text(found: dict[str, Any]) -> str:
    """What a terminal shows after a run."""
    parts = [f"{name}\n{summary.table(of, fields=summary.SHOWN | EXTRA)}"
             for name, of in by_suite(found["summary"]).items()]
    return "\n\n".join(parts + [f"note: {n}" for n in found["notes"]])


def publish(paths: list[Path]) -> None:
    """Write the measured part of docs/benchmarks.md and the plots; later files replace the suites of earlier ones."""
    files = [(path, json.loads(path.read_text())) for path in paths]
    latest: dict[str, tuple[Path, dict[str, Any]]] = {}
    for path, found in files:
        for record in found["records"]:
            latest[record["suite"]] = (path, found)
    lines: list[str] = []
    records: list[Any] = []
    for suite, (path, found) in latest.items():
        mine = [r for r in found["records"] if r["suite"] == suite]
        records += mine
        versions = ", ".join(found["versions"].values())
        lines += [f"### {suite}", "", f"{found['date']}, {found['mode']}; {versions}; "
                  f"raw: [{path.name}](../bench/results/{path.name})", "",
                  summary.table(summary.rows(mine), "github", summary.SHOWN | EXTRA), ""]
        lines += [f"- {note}" for note in found["notes"] if note.startswith(suite)] + [""]
    images = [f"![{path.stem}](images/{path.name})" for path in plots.draw_all(records, IMAGES)]
    body = "\n".join([BEGIN, *lines, *images, END])
    page = PAGE.read_text()
    PAGE.write_text(re.sub(re.escape(BEGIN) + ".*" + re.escape(END), lambda _: body, page, flags=re.S))
    print(f"wrote {PAGE} and {len(images)} plots")
