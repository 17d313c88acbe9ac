"""Proof that the suite can see: without one barrier, deferral or checksum test at a time, it fails within so many seeds."""

from __future__ import annotations

import pytest

from tests.crash.actions import run_seed
from tests.crash.rig import Config
from tests.support.oracle import Violation

# mutation -> the seeds within which a violation must show
BARRIERS = {
    "no_data_sync": 10,
    "no_journal_sync": 10,
    "no_ckpt_sync": 20,
    "early_free": 40,
    "no_home_hold": 40,
    "no_epoch": 40,
    "no_frame_crc": 20,
    "accept_soft": 20,
}


@pytest.mark.parametrize("mutation", BARRIERS)
def test_a_missing_barrier_is_seen(mutation: str) -> None:
    config = Config(mutations=mutation, checked=False, journal_blocks=128)
    for seed in range(1, BARRIERS[mutation] + 1):
        try:
            run_seed(seed, config)
        except Violation:
            return
    pytest.fail(f"{BARRIERS[mutation]} seeds did not notice {mutation}")
