"""A command that a gateway which waits has the owner answer: a table in memory, no cluster."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from target.volumes.relaying import ANSWERED, ASKED, KEPT_SECONDS, Answer, Answering, Asked, Asking, UnansweredError
from tests.volumes.test_telling import MemoryTable

ASK = Asked("owner", 3, "iqn.2026-01.test:a", bytes(6), 2, bytes(10), b"parameters")
ANSWER = Answer(2, b"sense", b"data", 24)


class Owner:
    """An owner that notes what it has done, on a clock that stands."""

    def __init__(self, table: MemoryTable) -> None:
        self.done: list[Asked] = []
        self.now_s = 0.0
        self.answering = Answering(table, "owner", self.perform, lambda: True, lambda: self.now_s)

    async def perform(self, asked: Asked) -> Answer:
        self.done.append(asked)
        return ANSWER


def test_what_is_asked_is_answered_once_and_nothing_stays() -> None:
    async def scene() -> None:
        table = MemoryTable()
        owner = Owner(table)
        asking = Asking(table)
        await owner.answering.start()
        answers = await asyncio.gather(asking.ask(ASK, lambda: True), asking.ask(replace(ASK, object_id=4), lambda: True))
        assert answers == [ANSWER, ANSWER]
        assert sorted(each.object_id for each in owner.done) == [3, 4]
        assert table.entries == {}
        await owner.answering.stop()

    asyncio.run(scene())


def test_what_another_owner_was_asked_is_not_done() -> None:
    async def scene() -> None:
        table = MemoryTable()
        table.entries = {ASKED + "1": replace(ASK, owner="another").pack(), ASKED + "2": b"{", ASKED + "3": b"[]"}
        owner = Owner(table)
        await owner.answering.look()
        assert not owner.done
        assert table.entries == {}

    asyncio.run(scene())


def test_it_is_done_once_though_the_answer_could_not_be_written() -> None:
    async def scene() -> None:
        table = MemoryTable()
        owner = Owner(table)
        table.entries = {ASKED + "1": ASK.pack()}
        table.full = True
        with pytest.raises(OSError, match="full"):
            await owner.answering.look()
        table.full = False
        await owner.answering.look()
        assert owner.done == [ASK]
        assert table.entries == {ANSWERED + "1": ANSWER.pack()}
        owner.now_s = KEPT_SECONDS + 1        # who asked is gone
        await owner.answering.look()
        assert table.entries == {}

    asyncio.run(scene())


def test_who_is_not_there_any_more_leaves_it_unanswered() -> None:
    async def scene() -> None:
        table = MemoryTable()
        with pytest.raises(UnansweredError):
            await Asking(table).ask(ASK, lambda: False)
        assert table.entries == {}
        table.full = True
        with pytest.raises(OSError, match="full"):
            await Asking(table).ask(ASK, lambda: True)

    asyncio.run(scene())


@pytest.mark.parametrize("wrong", [{"isid": bytes(5)}, {"cdb": b""}, {"cdb": bytes(300)}, {"data_out": bytes(1 << 17)},
                                   {"port": 0}, {"initiator_name": "a" * 300}])
def test_fields_of_other_lengths_are_none(wrong: dict[str, object]) -> None:
    assert Asked.unpack(ASK.pack()) == ASK
    assert Answer.unpack(ANSWER.pack()) == ANSWER
    with pytest.raises(ValueError, match="too long"):
        Asked.unpack(replace(ASK, **wrong).pack())      # type: ignore[arg-type]
