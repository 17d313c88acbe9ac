"""The promise as a hypothesis state machine: any operation, any overlap, any order of requests, any crash; it shrinks."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from tests.crash import actions
from tests.crash.rig import Config, Rig
from tests.support.history import Violation
from tests.support.simdisk import POWER_CUT_MODES

DICE = st.integers(0, (1 << 16) - 1)


class PoolLife(RuleBasedStateMachine):
    """Each rule draws the seed of what it decides by itself (places, lengths, which request next)."""

    def __init__(self) -> None:
        super().__init__()
        self.rig = Rig(0, Config(size_bytes=26 << 20, cache_bytes=0, journal_blocks=128, volume_bytes=2 << 20,
                                 hot_bytes=32 << 10, checked=False))
        self.rig.settle(actions.create(self.rig))

    def teardown(self) -> None:
        if self.rig.pool is None:
            return
        self.rig.settle()
        self.rig.verify()
        self.rig.pool.drain()
        self.rig.pool.close()
        self.rig.check(self.rig.disk)

    def begin(self, action: actions.Action, dice: int) -> None:
        self.rig.random.seed(dice)
        if len(self.rig.tokens) < 8:
            action(self.rig)

    @rule(dice=DICE)
    def create(self, dice: int) -> None:
        self.begin(actions.create, dice)

    @rule(dice=DICE)
    def write(self, dice: int) -> None:
        self.begin(actions.write, dice)

    @rule(dice=DICE)
    def write_more(self, dice: int) -> None:
        self.begin(actions.write, dice)

    @rule(dice=DICE)
    def write_atomic(self, dice: int) -> None:
        self.begin(actions.write_atomic, dice)

    @rule(dice=DICE)
    def unmap(self, dice: int) -> None:
        self.begin(actions.unmap, dice)

    @rule(dice=DICE)
    def read(self, dice: int) -> None:
        self.begin(actions.read, dice)

    @rule(dice=DICE)
    def compare_and_write(self, dice: int) -> None:
        self.begin(actions.compare_and_write, dice)

    @rule(dice=DICE)
    def share(self, dice: int) -> None:
        self.begin(actions.share, dice)

    @rule(dice=DICE)
    def snapshot(self, dice: int) -> None:
        self.begin(actions.snapshot, dice)

    @rule(dice=DICE)
    def clone(self, dice: int) -> None:
        self.begin(actions.clone, dice)

    @rule(dice=DICE)
    def revert(self, dice: int) -> None:
        self.begin(actions.revert, dice)

    @rule(dice=DICE)
    def resize(self, dice: int) -> None:
        self.begin(actions.resize, dice)

    @rule(dice=DICE)
    def delete(self, dice: int) -> None:
        self.begin(actions.delete, dice)

    @rule(dice=DICE)
    def rename(self, dice: int) -> None:
        self.begin(actions.rename, dice)

    @rule(dice=DICE)
    def kv(self, dice: int) -> None:
        self.begin(actions.kv, dice)

    @rule()
    def flush(self) -> None:
        self.begin(actions.flush, 0)

    @rule()
    def checkpoint(self) -> None:
        self.begin(actions.checkpoint, 0)

    @rule(dice=DICE, count=st.integers(1, 12))
    def go_on(self, dice: int, count: int) -> None:
        """Perform some requests, in some order."""
        self.rig.random.seed(dice)
        for _ in range(count):
            self.rig.step()

    @precondition(lambda self: self.rig.tokens)
    @rule()
    def settle(self) -> None:
        self.rig.settle()

    @rule()
    def verify(self) -> None:
        self.rig.settle()
        self.rig.verify()

    @rule(dice=DICE, mode=st.sampled_from(["kill", *POWER_CUT_MODES]), interruptions=st.integers(0, 3))
    def crash(self, dice: int, mode: str, interruptions: int) -> None:
        self.rig.random.seed(dice)
        self.rig.disk.random.seed(dice)
        self.rig.crash(power=mode != "kill", mode="" if mode == "kill" else mode)
        self.rig.config = self.rig.config if dice % 4 else Config(**{**vars(self.rig.config), "checked": True})
        self.rig.reopen(interruptions=interruptions)


TestPoolLife = PoolLife.TestCase
TestPoolLife.settings = settings(max_examples=40, stateful_step_count=40, deadline=None, database=None,
                                 suppress_health_check=list(HealthCheck), print_blob=True)


def test_the_oracle_says_no() -> None:
    """The harness itself: an oracle that is told of a write which never happened refuses the pool."""
    rig = Rig(1, Config(size_bytes=26 << 20, cache_bytes=0, checked=False))
    rig.do("create", name="v", size_bytes=64 << 10)
    op = rig.oracle.begin("write", object_id=1, offset_bytes=0, data=rig.oracle.make_data(1, 0, 4096))
    rig.oracle.finish(op, "ok")
    try:
        rig.verify()
    except Violation:
        return
    raise AssertionError("the oracle accepted a lost write")
