"""Regions that the engine puts in order by itself: which, beside whom, and when."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.aged import BLOCK, CACHED_GAP, MIB, RUN, Aged


def settle(aged: Aged) -> None:
    """Time passes until nothing waits to be moved."""
    aged.pool.drain()
    for _ in range(1000):
        if not aged.pool.stats()["waiting_regions"]:
            break
        aged.now_us += 100_000
        aged.pool.drain()
    aged.pool.drain()


def test_a_region_that_is_overwritten_is_put_in_order_behind_its_writers() -> None:
    aged = Aged()
    aged.pool.order(True)
    aged.age(0.6)
    settle(aged)
    stats = aged.pool.stats()
    assert stats["ordered_regions"] == 2
    assert aged.requests() == 4


def test_a_region_that_is_read_in_order_is_put_in_order() -> None:
    aged = Aged()
    aged.age(0.6)
    aged.pool.order(True)
    settle(aged)
    assert aged.pool.stats()["ordered_regions"] == 0, "nobody has read it"
    for at in range(0, 2 * RUN, BLOCK):
        aged.pool.call("read", object_id=aged.volume, offset_bytes=at, length_bytes=BLOCK)
    settle(aged)
    assert aged.pool.stats()["ordered_regions"] == 0, "in small pieces it is as good as any"
    aged.requests()
    settle(aged)
    assert aged.pool.stats()["ordered_regions"] == 2
    assert aged.requests() == 4


def test_the_region_in_which_a_volume_ends_is_put_in_order() -> None:
    aged = Aged()
    aged.pool.call("resize", object_id=aged.volume, size_bytes=RUN + MIB)
    del aged.content[RUN + MIB:]
    aged.snapshots[aged.pool.call("snapshot", pairs=[(aged.volume, "v@s")])[0]] = bytes(aged.content)
    for block in aged.random.sample(range(256), 150):
        aged.write(RUN + block * BLOCK, BLOCK)
    aged.pool.order(True)
    aged.requests()
    settle(aged)
    assert aged.pool.stats()["ordered_regions"] == 1
    assert aged.requests() == 3


def test_nothing_is_put_in_order_where_that_is_switched_off() -> None:
    aged = Aged()
    aged.age(0.6)
    aged.requests()
    settle(aged)
    assert (aged.pool.stats()["ordered_regions"], aged.pool.stats()["waiting_regions"]) == (0, 0)
    aged.pool.order(True)
    aged.requests()
    aged.pool.order(False)
    assert aged.pool.stats()["waiting_regions"] == 0, "what was noted is forgotten"


def test_a_long_read_has_what_lies_behind_it_put_in_order() -> None:
    """A reader in order comes there next."""
    aged = Aged(regions=6)
    aged.age(0.6)
    aged.pool.order(True)
    aged.pool.call("read", object_id=aged.volume, offset_bytes=0, length_bytes=MIB)
    settle(aged)
    assert aged.pool.stats()["ordered_regions"] == 4
    assert aged.requests() > 12, "what lies further behind is as it was"
    settle(aged)
    assert aged.requests() == 12


def test_of_a_page_cache_only_what_is_read_is_put_in_order() -> None:
    """What is moved there is written back beside later writers."""
    aged = Aged(gap_bytes=CACHED_GAP)
    aged.pool.order(True)
    aged.age(0.6)
    settle(aged)
    assert aged.pool.stats()["ordered_regions"] == 0
    aged.requests()
    settle(aged)
    assert aged.pool.stats()["ordered_regions"] == 2


def noted(**args: Any) -> Aged:
    """Somebody writes, and seven regions have been found scattered."""
    aged = Aged(regions=8, **args)
    aged.age(0.6)
    aged.write(0, BLOCK)
    aged.pool.order(True)
    for region in (1, 4):
        aged.pool.call("read", object_id=aged.volume, offset_bytes=region * RUN, length_bytes=MIB)
    return aged


def test_beside_writers_moves_are_followed_by_rests() -> None:
    """Some at a time, and when one has ended none begins for as long as it took."""
    aged = noted()
    began, ended = aged.now_us, 0
    assert 0 < aged.pool.stats()["waiting_regions"] < 7
    while waiting := aged.pool.stats()["waiting_regions"]:
        aged.write(0, BLOCK)
        stats = aged.pool.stats()
        if not ended and stats["ordered_regions"]:
            ended = aged.now_us
        if stats["waiting_regions"] < waiting and ended:
            assert aged.now_us - ended >= (ended - began) // 2
            break
    settle(aged)
    assert aged.pool.stats()["ordered_regions"] == 7
    assert aged.requests() > 14               # the one that nobody has noted


def test_beside_writers_nothing_is_given_back_while_regions_are_moved() -> None:
    """What a move frees lies scattered, and a hole waits for all requests that are under way."""
    aged = noted()
    aged.pool.call("flush")
    while aged.pool.stats()["waiting_regions"]:
        aged.now_us += 3_000_000              # marks are looked at each two seconds
        aged.write(0, BLOCK)
        assert aged.pool.stats()["punched_bytes"] == 0
    assert aged.pool.stats()["ordered_regions"] >= 4
    for _ in range(20):
        aged.now_us += 3_000_000
        aged.pool.drain()
    assert aged.pool.stats()["punched_bytes"] > 0


def test_of_a_page_cache_nothing_is_moved_while_somebody_writes() -> None:
    aged = Aged(regions=6, gap_bytes=CACHED_GAP)
    aged.age(0.6)
    aged.pool.order(True)
    aged.requests()
    for _ in range(50):
        aged.write(0, BLOCK)
    stats = aged.pool.stats()
    assert stats["waiting_regions"] >= 4
    assert stats["ordered_regions"] == 0


@pytest.mark.parametrize("queues", [1, 2])
def test_beside_those_that_read_from_a_page_cache_few_moves_have_long_rests(queues: int) -> None:
    """They gain little: one region at a time, and an eighth of the time at most. Once they are silent the others follow.

    Of two devices only that one has a page cache which does no background work.
    """
    aged = Aged(regions=8, gap_bytes=CACHED_GAP, cached=True, queues=queues)
    aged.age(0.6)
    aged.now_us += 1_000_000
    for _ in range(queues):
        aged.pool.call("read", object_id=aged.volume, offset_bytes=0, length_bytes=BLOCK)
    aged.pool.order(True)
    for region in (1, 4):
        aged.pool.call("read", object_id=aged.volume, offset_bytes=region * RUN, length_bytes=MIB)
    waiting, ordered, began, ended = 7, 0, aged.now_us, 0
    while ordered < 3:
        aged.pool.call("read", object_id=aged.volume, offset_bytes=0, length_bytes=BLOCK)
        stats = aged.pool.stats()
        if stats["waiting_regions"] < waiting:
            assert stats["waiting_regions"] == waiting - 1 == 6 - ordered, "one at a time"
            assert not ended or aged.now_us - ended >= 6 * (ended - began), "what passes between two looks is not counted"
            waiting, began = waiting - 1, aged.now_us
        if stats["ordered_regions"] > ordered:
            ordered, ended = ordered + 1, aged.now_us
    aged.now_us += 20_000
    aged.pool.drain()
    assert aged.pool.stats()["waiting_regions"] == 0


def test_a_volume_may_be_shrunk_while_its_regions_wait() -> None:
    aged = Aged(regions=4, gap_bytes=CACHED_GAP)
    aged.age(0.6)
    aged.pool.order(True)
    aged.requests()
    aged.pool.call("resize", object_id=aged.volume, size_bytes=RUN)
    settle(aged)
    stats = aged.pool.stats()
    assert (stats["ordered_regions"], stats["waiting_regions"]) == (1, 0), "those behind the end are not there any more"


def test_a_volume_may_go_while_its_regions_wait() -> None:
    aged = Aged()
    aged.age(0.6)
    aged.pool.order(True)
    aged.requests()
    for number in (aged.volume, *aged.snapshots):
        aged.pool.call("delete", object_id=number)
    settle(aged)
    aged.pool.close()
