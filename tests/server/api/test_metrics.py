"""The metrics: types, units, names, bounded numbers of series, shipped rules and dashboard (target/server/api/metrics.py)."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from core.wire.reactor import DIRECTIONS, LATENCY_BOUNDS_US
from target.server.api.metric_names import POOL, REACTOR
from target.server.api.volume_series import OTHERS, SNAPSHOTS, VOLUME, VolumeSeries
from target.server.iscsi.statistics import COUNTS
from target.volumes.gateway import ObjectInfo
from target.volumes.mirrors import Common, Mirror, Reign
from tests.server.conftest import Control

ROOT = Path(__file__).parents[3]
PACKAGING = ROOT / "packaging"
BUCKETS = len(LATENCY_BOUNDS_US) + 1
POOL_NAMES = {name.metric for name in POOL}      # a fake pool has few of them


class Counting:
    """Reactors' figures as a test sets them."""

    def __init__(self) -> None:
        self.rows: dict[int, dict[str, int]] = {}
        self.took: dict[int, dict[str, tuple[list[int], int]]] = {}
        self.forgotten: list[int] = []

    def read(self, object_id: int, *, took_us: int, times: int) -> None:
        bucket = sum(took_us > bound for bound in LATENCY_BOUNDS_US)
        counts, sum_us = self.took.setdefault(object_id, {name: ([0] * BUCKETS, 0) for name in DIRECTIONS})["read"]
        counts[bucket] += times
        self.took[object_id]["read"] = counts, sum_us + took_us * times
        row = self.rows.setdefault(object_id, dict.fromkeys(COUNTS, 0))
        row["read_bytes"] += 4096 * times

    def stats(self) -> dict[str, Any]:
        loop = {name.key: 0 for name in REACTOR}
        return {"connections": [], "luns": [], "loop": loop,
                "objects": [{"object_id": number, **row} for number, row in self.rows.items()]}

    def latencies(self) -> dict[int, Any]:
        return self.took

    def forget_object(self, object_id: int) -> None:
        self.forgotten.append(object_id)
        self.rows.pop(object_id, None)
        self.took.pop(object_id, None)


@pytest.fixture
def counting(control: Control) -> Counting:
    made = Counting()
    control.daemon.table.reactors.append(made)  # type: ignore[arg-type]
    return made


async def scrape(control: Control, accept: str = "") -> tuple[str, str]:
    """The document and its Content-Type."""
    async with (aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(control.socket))) as session,
                session.get("http://lunette/metrics", headers={"Accept": accept}) as response):
        assert response.status == 200
        return await response.text(), response.headers["Content-Type"]


async def samples(control: Control) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text, _ = await scrape(control)
    return {(sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text) for sample in family.samples}


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


async def make(control: Control, *names: str) -> list[int]:
    ids = []
    for name in names:
        if "@" in name:
            await control.daemon.commands.run("snapshot", {"names": [name]})
        else:
            await control.daemon.commands.run("create", {"name": name, "size_bytes": 1 << 20})
        ids.append(control.daemon.catalog.find(name).id)
    return ids


async def test_a_histogram_has_seconds_and_cumulative_buckets(control: Control, counting: Counting) -> None:
    (db,) = await make(control, "db")
    counting.read(db, took_us=8, times=3)
    counting.read(db, took_us=900, times=1)
    counting.read(db, took_us=60_000_000, times=1)
    found = await samples(control)
    where = {"volume": "db", "source": "volume", "operation": "read"}
    name = "lunette_volume_command_duration_seconds"
    assert found[key(f"{name}_bucket", **where, le="8e-06")] == 3
    assert found[key(f"{name}_bucket", **where, le="0.000512")] == 3
    assert found[key(f"{name}_bucket", **where, le="0.001024")] == 4
    assert found[key(f"{name}_bucket", **where, le="+Inf")] == found[key(f"{name}_count", **where)] == 5
    assert found[key(f"{name}_sum", **where)] == pytest.approx(60.000924)
    assert found[key("lunette_volume_read_bytes_total", volume="db", source="volume")] == 5 * 4096
    assert not any(dict(labels).get("operation") == "write" for _, labels in found)       # nobody wrote: no series for it


async def test_snapshots_have_one_series_together_and_counters_never_fall(control: Control, counting: Counting) -> None:
    db, one, two = await make(control, "db", "db@1", "db@2")
    where = key("lunette_volume_read_bytes_total", volume="db", source="snapshots")
    counting.read(one, took_us=10, times=1)
    counting.read(two, took_us=10, times=1)
    found = await samples(control)
    assert found[where] == 2 * 4096
    assert found[key("lunette_volume_snapshots", volume="db")] == 2
    assert not any("@" in value for _, labels in found for _, value in labels)
    await control.daemon.commands.run("delete", {"names": ["db@1"]})
    assert counting.forgotten == [one]
    counting.read(two, took_us=10, times=1)
    found = await samples(control)
    assert found[where] == 3 * 4096
    assert found[key("lunette_objects", kind="snapshot")] == 1
    await control.daemon.commands.run("rename", {"name": "db", "new_name": "db2"})
    assert (await samples(control))[key("lunette_volume_read_bytes_total", volume="db2", source="snapshots")] == 3 * 4096
    await control.daemon.commands.run("delete", {"names": ["db2"]})
    counting.read(two, took_us=10, times=1)                 # an orphan: among the others, from now on
    assert (await samples(control))[key("lunette_volume_read_bytes_total", volume="(others)", source="snapshots")] == 4096
    assert db not in counting.rows


def info(number: int, kind: str = "volume", origin: int = 0) -> ObjectInfo:
    return ObjectInfo(number, kind, f"o{number}", 0, 512, 0, 0.0, "", origin, False, 0, 0, "", b"", 3)  # type: ignore[arg-type]


def test_volumes_beyond_the_bound_are_one_sum_and_stay_in_it() -> None:
    series = VolumeSeries(max_volumes=2)
    series.settle([1, 2, 3])
    assert [series.has_own(number) for number in (1, 2, 3)] == [True, True, False]
    series.take({number: (info(number), [10], 1) for number in (1, 2, 3)})
    series.take({number: (info(number), [11], 0) for number in (1, 2, 3)} | {9: (info(9, "snapshot", 3), [5], 2)})
    assert {place: (sums.counts, sums.in_flight) for place, sums in series.sums.items()} == {
        (1, VOLUME): ([11], 0), (2, VOLUME): ([11], 0), (OTHERS, VOLUME): ([11], 0), (OTHERS, SNAPSHOTS): ([5], 2)}
    series.settle([2, 3, 4])                                # 1 is deleted: its place is a new volume's, not 3's, whose sum stays
    assert [series.has_own(number) for number in (2, 3, 4)] == [True, False, True]
    series.take({number: (info(number), [12], 0) for number in (2, 3, 4)})
    assert {place: sums.counts for place, sums in series.sums.items()} == {
        (2, VOLUME): [12], (4, VOLUME): [12], (OTHERS, VOLUME): [12], (OTHERS, SNAPSHOTS): [5]}


async def test_each_asker_gets_the_format_it_takes(control: Control, counting: Counting) -> None:
    text, kind = await scrape(control, "application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    assert text.endswith("# EOF\n")
    text, kind = await scrape(control, "text/html")
    assert kind.startswith("text/plain; version=0.0.4")
    assert "# EOF" not in text


async def test_what_promtool_says(control: Control, counting: Counting) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not there: apt-get install prometheus")
    (db,) = await make(control, "db")
    counting.read(db, took_us=10, times=1)
    text, _ = await scrape(control)

    def run(*args: str, stdin: str = "") -> tuple[int, str]:
        done = subprocess.run([promtool, *args], cwd=PACKAGING / "prometheus", input=stdin, capture_output=True, text=True,
                              check=False)
        return done.returncode, done.stdout + done.stderr

    assert await asyncio.to_thread(run, "check", "metrics", stdin=text) == (0, "")
    for args in (("check", "rules", "lunette.rules.yml"), ("test", "rules", "lunette.rules.test.yml")):
        status, said = await asyncio.to_thread(run, *args)
        assert status == 0, said


def mirror_of(volume_id: int) -> Mirror:
    return Mirror(volume_id, "1" * 32, "b", "replica", (Reign("1", "2", ""),), 30.0, common=(
        Common("0" * 32, int((time.time() - 100) * 1e6)),))


async def test_a_mirror_has_its_figures(control: Control) -> None:
    (db,) = await make(control, "db")
    assert not [name for name, _ in await samples(control) if "mirror" in name]
    await control.daemon.mirrors.save(mirror_of(db))
    found = {(name, dict(labels).get("state")): value for (name, labels), value in (await samples(control)).items()}
    assert 100 <= found["lunette_mirror_lag_seconds", None] < 130
    assert found["lunette_mirror_rpo_seconds", None] == 30
    assert found["lunette_mirror_state", "replica"] == 1
    assert found["lunette_mirror_state", "ok"] == 0


async def test_rules_and_dashboard_ask_for_metrics_that_there_are(control: Control, counting: Counting) -> None:
    (db,) = await make(control, "db")
    counting.read(db, took_us=10, times=1)
    await control.daemon.mirrors.save(mirror_of(db))
    there = {name for name, _ in await samples(control)}
    dashboard = json.loads((PACKAGING / "grafana" / "lunette.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    asked.append((PACKAGING / "prometheus" / "lunette.rules.yml").read_text())
    named = set(re.findall(r"\blunette_\w+", " ".join(asked)))
    assert len(named) > 20
    assert named - there - POOL_NAMES == set()
    page = (ROOT / "docs" / "monitoring.md").read_text()
    families = {re.sub(r"_(bucket|count|sum)$", "", name) for name in there | POOL_NAMES}
    assert {name for name in families if f"`{name}`" not in page} == set()
