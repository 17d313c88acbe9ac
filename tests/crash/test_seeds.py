"""Seeded lives: overlapping operations, out-of-order requests, crashes of both kinds, everything verified after each."""

from __future__ import annotations

import pytest

from tests.crash.actions import DWELLING, run_seed
from tests.crash.rig import Config

# What a life is lived in. "paged": the smallest cache, so that nodes and counts come and go; "ring": a journal that wraps
# and checkpoints all the time; "crowded": a pool that is nearly full; "shared leaves": all objects have sparse leaves; "deep":
# many objects, so that much is shared.
SETTINGS = {
    "plain": (Config(), 16),
    "paged": (Config(size_bytes=96 << 20, cache_bytes=0, volume_bytes=40 << 20, hot_bytes=24 << 20), 6),
    "ring": (Config(journal_blocks=96), 8),
    "crowded": (Config(size_bytes=27 << 20, volume_bytes=4 << 20, hot_bytes=4 << 20), 6),
    "shared leaves": (Config(size_bytes=96 << 20, cache_bytes=0, volume_bytes=40 << 20, hot_bytes=24 << 20,
                             mutations="all_wide"), 6),
    "deep": (Config(max_objects=60, hot_bytes=16 << 10), 6),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_seeded_lives(name: str, first_seed: int, seed_count: int) -> None:
    config, quick = SETTINGS[name]
    crashes = 0
    for seed in range(first_seed, first_seed + (seed_count or quick)):
        crashes += run_seed(seed, config).crashes
    assert crashes > 0


@pytest.mark.parametrize("name", DWELLING)
def test_lives_that_dwell_on_one_thing(name: str, first_seed: int, seed_count: int) -> None:
    for seed in range(first_seed, first_seed + (seed_count or DWELLING[name].seeds)):
        DWELLING[name].run(seed)


@pytest.mark.parametrize(("name", "seed"), [("ring", 800057)])
def test_lives_that_once_failed(name: str, seed: int) -> None:
    """800057: an operation asked for room when the turn's background work was over, and slept until anything else woke it."""
    run_seed(seed, SETTINGS[name][0])
