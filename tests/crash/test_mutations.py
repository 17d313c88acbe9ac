"""Proof that the suite can see: without one barrier, deferral or checksum test at a time, it fails within so many seeds."""

from __future__ import annotations

import dataclasses

import pytest

from core import layout
from tests.crash import test_bitflips as bitflips
from tests.crash.actions import (
    COPYING,
    DWELLING,
    FREEING,
    LOCKED,
    PUBLISHING,
    PUNCHING,
    RECORDING,
    REVERTING,
    SHARING,
    STEADY,
    UNSYNCED,
    WHOLE,
    Lives,
    write,
)
from tests.crash.knots import CONFIG as FIELDS
from tests.crash.knots import KNOTTED
from tests.crash.rig import Config
from tests.crash.test_late_requests import late
from tests.crash.test_wide import SETTINGS
from tests.support.history import Violation

CONFIG = Config(checked=False, journal_blocks=128)

VAST_CONFIG, VAST, _ = SETTINGS["vast"]

BARRIERS = {
    "no_data_sync": Lives(20, CONFIG, crash_every=20, weights=STEADY),
    "no_journal_sync": Lives(10, CONFIG),
    "no_ckpt_sync": Lives(40, CONFIG, crash_every=15, weights=PUBLISHING),
    "early_free": Lives(30, Config(checked=False, journal_blocks=128, stuck=0, power=1, fua=0), 300, 30, FREEING),
    "no_home_hold": Lives(20, CONFIG),
    "no_frame_crc": Lives(20, Config(checked=False, power=0.1, tear=0.9), crash_every=12, weights=RECORDING),
    "split_atomic": Lives(60, Config(checked=False, journal_blocks=128, tear=0.6, power=0.1, stuck=0.3), crash_every=6,
                          weights=WHOLE),
    "accept_soft": Lives(20, Config(checked=False, journal_blocks=128, power=1, fua=0.05, stuck=0), crash_every=8,
                         weights=UNSYNCED),
    "early_punch": Lives(20, Config(checked=False, punch_delay_us=5, power=1, fua=0.05, stuck=0), crash_every=25,
                         weights=PUNCHING),
    "no_punch_hold": Lives(40, Config(checked=False, size_bytes=28 << 20, punch_delay_us=50, stuck=1.0, slow="discard"),
                           weights=PUNCHING),
    "no_super_sync": Lives(40, CONFIG, crash_every=15, weights=PUBLISHING),
    "no_inflight": Lives(20, Config(journal_blocks=128, stuck=0.4), crash_every=15, weights={**PUBLISHING, write: 40}),
    "no_range_lock": Lives(40, Config(checked=False, stuck=0.3, hot_bytes=8 << 10, max_inflight=8), weights=LOCKED),
    "slices_unseen": Lives(20, dataclasses.replace(FIELDS, checked=False), 120, 100, KNOTTED),
    "first_hint": DWELLING["huge"]._replace(seeds=24),
    "short_diff": Lives(10, dataclasses.replace(VAST_CONFIG, checked=False), weights=VAST),
    "early_revert": Lives(24, Config(checked=False, stuck=0.3, slow="data", hot_bytes=8 << 10, parts=0.3, checksums=0,
                                     max_inflight=16, max_objects=8, settle=0.01), 400, 200, REVERTING),
    "no_settle": Lives(40, Config(checked=False, stuck=0.4, slow="data", hot_bytes=4 << 10, parts=0.8, checksums=0,
                                  max_inflight=16, max_objects=3, settle=0.01, volume_bytes=64 << 10), 400, 150, COPYING),
    "no_merge_check": Lives(20, Config(checked=False, stuck=0.2, hot_bytes=8 << 10, parts=0.9, max_inflight=8), weights=SHARING),
    "no_leap": Lives(40, Config(checked=False, journal_blocks=128, power=0.5, tear=0.0, fua=0.0, stuck=0.1, max_inflight=3),
                     crash_every=7, weights=UNSYNCED),
    "admin_soft": Lives(10, CONFIG, crash_every=10, weights=RECORDING),
    "early_share": DWELLING["looking"],
    "blind_publish": DWELLING["receiving"],
    "split_publish": DWELLING["receiving"]._replace(seeds=30),
    "no_lock_grace": DWELLING["meeting"],
    "one_epoch": DWELLING["returning"]._replace(config=dataclasses.replace(
        DWELLING["returning"].config, size_bytes=24 << 20, filler_bytes=1 << 20)),
}


def first_violation(lives: Lives, mutation: str, *, last: int) -> int:
    """The first seed that shows a violation, 0: none does."""
    for seed in range(1, last + 1):
        try:
            lives._replace(config=dataclasses.replace(lives.config, mutations=mutation)).run(seed)
        except Violation:
            return seed
    return 0


@pytest.mark.parametrize("mutation", BARRIERS)
def test_a_missing_barrier_is_seen(mutation: str) -> None:
    lives = BARRIERS[mutation]
    seed = first_violation(lives, mutation, last=lives.seeds)
    assert seed, f"{lives.seeds} seeds did not notice {mutation}"
    assert not first_violation(lives, "", last=min(seed, 5)), "the same lives fail with every barrier in place"


def test_a_missing_page_checksum_is_seen(first_seed: int) -> None:
    """Without the test of node checksums a flipped bit in a node is answered with other data."""
    rig = bitflips.furnished()
    rig.do("flush")
    rig.pool.drain()
    rig.pool.close()
    rig.remember()
    pages = bitflips.metadata_pages(rig.disk)["node"]
    for block, byte, bit in bitflips.flips(first_seed, pages, 200):
        disk = rig.disk.fork(1)
        disk.flip(block * bitflips.BLOCK + byte, bit)
        try:
            bitflips.answer_right_or_refuse(disk, rig, "flip", mutations="no_node_crc")
        except Violation:
            return
    pytest.fail("200 flipped bits did not notice no_node_crc")


@pytest.mark.parametrize("kind", ["read", "write"])
def test_a_missing_epoch_is_seen(kind: str) -> None:
    """Blocks that are used again while requests to them are in flight."""
    with pytest.raises(Violation):
        late(kind, Config(size_bytes=26 << 20, cache_bytes=0, checked=False, mutations="no_epoch"))


def test_a_missing_checksum_of_data_is_seen() -> None:
    rig = bitflips.furnished()
    rig.do("flush")
    rig.pool.drain()
    rig.pool.close()
    rig.remember()
    block = next(block for block, page in rig.disk.view.items() if page == rig.expected[2][:bitflips.BLOCK])
    rig.disk.flip(block * bitflips.BLOCK + 100, 3)
    assert bitflips.answer_right_or_refuse(rig.disk.fork(1), rig, "flip")
    with pytest.raises(Violation):
        bitflips.answer_right_or_refuse(rig.disk.fork(1), rig, "flip", mutations="no_data_crc")


def test_a_missing_note_of_synced_frames_is_seen() -> None:
    """A frame that rots, though a later one says that it was durable, is taken for a torn one: what was flushed is gone."""
    for mutation in ("", "no_synced_upto"):
        rig = bitflips.furnished()
        rig.do("checkpoint")
        for at in range(4):
            bitflips.write(rig, 1, (3 + at) << 20, 4096)
            rig.do("flush")
        rig.remember()
        rig.crash(power=True, mode="all")
        seen = 0
        for block in range(2560, 2560 + 512):
            page = rig.disk.view.get(block, b"")
            if page[:4] == layout.FRAME_MAGIC.to_bytes(4, "little"):
                disk = rig.disk.fork(1)
                disk.flip(block * bitflips.BLOCK + 70, 1)
                try:
                    bitflips.refused_or_right(disk, rig, mutation, "a rotten frame")
                except Violation:
                    seen += 1
        assert seen > 2 if mutation else seen <= 2, (mutation, seen)         # the newest has none behind it (the seal)
