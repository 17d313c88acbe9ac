"""Reads in waves: a device that ends everything at once has half of them, any other all."""

from core.wire.waves import Waves

GAP_US, SPREAD_US = 200, 20


class AtOnce:
    """A device that takes its time, and ends all it has then; `depth` reads are always under way."""

    def __init__(self, depth: int) -> None:
        self.waves, self.now_us, self.most = Waves(), 1_000, 0
        self.give(depth)

    def give(self, count: int, *, may_wait: bool = True) -> None:
        for _ in range(count):
            self.waves.give(may_wait)
        self.most = max(self.most, self.waves.at_device)

    def rounds(self, count: int, *, may_wait: bool = True) -> None:
        """It ends what it has, in two turns, and as many are new."""
        for _ in range(count):
            self.now_us += GAP_US
            had = self.waves.at_device
            assert had, "nothing would ever end"
            self.waves.ended(had - had // 2, self.now_us)
            self.now_us += SPREAD_US
            self.waves.ended(had // 2, self.now_us)
            self.give(had, may_wait=may_wait)


def test_a_device_that_ends_all_at_once_is_given_half_once_that_is_certain() -> None:
    device = AtOnce(32)
    device.rounds(6)
    assert device.waves.at_device == 32, "it might be chance"
    device.rounds(10)
    for _ in range(20):
        device.most = 0
        device.rounds(1)
        assert (device.waves.at_device, device.waves.waiting) == (16, 16)
        assert device.most <= 16


def test_what_comes_while_a_short_wave_is_under_way_joins_it() -> None:
    device = AtOnce(32)
    device.rounds(16)
    device.now_us += GAP_US
    device.waves.ended(16, device.now_us)            # the other half is given at once; of these, four come again
    device.give(4)
    assert (device.waves.at_device, device.waves.waiting) == (16, 4)
    device.now_us += GAP_US
    device.waves.ended(16, device.now_us)
    assert (device.waves.at_device, device.waves.waiting) == (4, 0)
    device.give(20)
    assert (device.waves.at_device, device.waves.waiting) == (16, 8)


def test_writes_never_wait_and_few_reads_neither() -> None:
    device = AtOnce(32)
    device.rounds(16, may_wait=False)
    device.rounds(4, may_wait=False)
    assert device.waves.waiting == 0
    assert device.waves.at_device == 32
    few = AtOnce(15)
    few.rounds(32)
    assert few.waves.waiting == 0


def test_a_device_that_tells_of_each_end_has_all_there_is() -> None:
    waves = Waves()
    now_us = 1_000
    for _ in range(32):
        waves.give(True)
    for _ in range(32 * 20):
        now_us += 5
        waves.ended(1, now_us)
        assert waves.give(True)
    assert (waves.at_device, waves.waiting) == (32, 0)


def test_a_device_that_changes_its_ways_is_given_all_again() -> None:
    device = AtOnce(32)
    device.rounds(32)
    assert device.waves.waiting
    for _ in range(32 * 8):                          # one by one from now on
        device.now_us += 10
        device.waves.ended(1, device.now_us)
        device.give(1)
        assert device.waves.at_device, "nothing would ever end"
    assert (device.waves.at_device, device.waves.waiting) == (32, 0)
