"""Which LUN is next: the one below 256 that has been free the longest, none that is held while another is free."""

from __future__ import annotations

import pytest

from target.errors import LunetteError
from target.volumes.luns import EVERYONE, MAX_LUN, Connection, LunTables

HOST = 3


def nobody(lun: int) -> bool:
    return False


class Table:
    """One host's LUNs, each connected to an object of its own."""

    def __init__(self, host_id: int = EVERYONE) -> None:
        self.luns = LunTables()
        self.host_id = host_id
        self.made = 0

    def take(self, lun: int) -> Connection:
        self.made += 1
        connection = Connection(self.host_id, lun, self.made)
        self.luns.add(connection)
        return connection

    def take_next(self, *held: int) -> Connection:
        return self.take(self.luns.next_free(self.host_id, lambda lun: lun in held))


@pytest.mark.parametrize("host_id", [EVERYONE, HOST])
def test_all_below_256_come_before_any_above_and_the_longest_free_first(host_id: int) -> None:
    table = Table(host_id)
    made = [table.take_next() for _ in range(256)]
    assert [each.lun for each in made] == list(range(256))
    for lun in (7, 200, 3):
        table.luns.drop(made[lun])
    assert [table.take_next().lun for _ in range(5)] == [7, 200, 3, 256, 257]


def test_a_number_that_never_was_used_has_been_free_the_longest() -> None:
    table = Table()
    for _ in range(300):
        table.luns.drop(table.take_next())
    assert [table.take_next().lun for _ in range(3)] == [300 - 256, 301 - 256, 302 - 256]


def test_a_chosen_number_moves_no_other() -> None:
    table = Table()
    high, low = table.take(300), table.take(5)
    assert [table.take_next().lun for _ in range(6)] == [0, 1, 2, 3, 4, 6]
    table.luns.drop(low)
    table.luns.drop(high)
    assert table.take_next().lun == 7
    for lun in range(8, 256):
        table.take(lun)
    assert [table.take_next().lun for _ in range(2)] == [5, 256]


def test_a_held_number_waits_while_another_below_256_is_free_and_no_longer() -> None:
    table = Table()
    made = [table.take_next() for _ in range(256)]
    for lun in (9, 8, 10):
        table.luns.drop(made[lun])
    assert table.take_next(9, 8).lun == 10
    assert table.take_next(9, 8).lun == 9           # all are held: the one that has been free the longest
    assert table.take_next(9).lun == 8
    assert table.take_next(256).lun == 257          # above 255 the same


def test_numbers_end() -> None:
    table = Table()
    for lun in range(MAX_LUN + 1):
        table.take(lun)
    with pytest.raises(LunetteError, match="all 16384 LUNs are taken"):
        table.luns.next_free(EVERYONE, nobody)


def test_no_chosen_number_hides_an_object_of_everyones() -> None:
    tables = LunTables()
    tables.add(Connection(EVERYONE, 0, 1))
    tables.add(Connection(HOST, 1, 2))
    assert tables.next_free(HOST, nobody) == 2
    assert tables.next_free(EVERYONE, nobody) == 2
    tables.drop(Connection(HOST, 1, 2))
    assert tables.next_free(EVERYONE, nobody) == 1


def test_what_a_host_would_see_after_a_change() -> None:
    tables = LunTables()
    for each in (mine := Connection(HOST, 0, 1), Connection(EVERYONE, 0, 2), Connection(EVERYONE, 1, 3)):
        tables.add(each)
    assert tables.seen_by(HOST, open_access=True) == {0: 1, 1: 3}
    assert tables.seen_by(HOST, open_access=False) == {0: 1}
    assert tables.seen_by(None, open_access=True) == {0: 2, 1: 3}
    assert tables.seen_by(HOST, open_access=True, without=[mine]) == {0: 2, 1: 3}
    assert tables.seen_by(HOST, open_access=True, added=Connection(HOST, 1, 9)) == {0: 1, 1: 9}
    assert tables.seen_by(HOST, open_access=True, added=Connection(EVERYONE, 0, 9)) == {0: 1, 1: 3}
    assert tables.seen_by(None, open_access=False, added=Connection(EVERYONE, 0, 9)) == {}
