"""For any loss and damage at ErrorRecoveryLevel 1, every command ends once, with its data (RFC 7143 §7.1.4)."""

import random
from pathlib import Path

import pytest

from tests.support.lossy import Lossy
from tests.support.wire import rig


@pytest.mark.parametrize("seed", range(6))
def test_whatever_is_lost_every_command_ends_once_with_its_data(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    first_burst = rng.choice((512, 4096, 16384))
    immediate = rng.choice((0, 512, 4096))
    with rig(tmp_path / "pool") as r:
        w = r.wire(error_recovery_level=1, data_digest=True, header_digest=True, max_send_data_segment_length=1024,
                   max_burst_length=rng.choice((2048, 8192)), first_burst_length=first_burst, immediate_data=immediate > 0,
                   initial_r2t=seed % 3 == 0, max_cmd_window=16)
        w.exp_stat_sn = 100
        if seed % 3 == 0:
            first_burst = min(first_burst, immediate)    # nothing unsolicited but with the command
        it = Lossy(w, rng, rng.choice((0.02, 0.08, 0.2)), immediate_bytes=immediate, first_burst=first_burst)
        held = [bytes(16384)] * 8
        begun = 0
        while begun < 60 or it.open:
            free = [area for area in range(8) if all(each.lba != area * 32 for each in it.open.values())]
            if begun < 60 and free:
                area, blocks = rng.choice(free), rng.randrange(1, 33)
                begun += 1
                if rng.random() < 0.5:
                    data = rng.randbytes(512 * blocks)
                    held[area] = data + held[area][len(data):]
                    it.start(area * 32, blocks, data)
                else:
                    reading = it.start(area * 32, blocks)
                    while reading.itt in it.open:
                        it.step()
                    got = b"".join(reading.pdus[sn].data for sn in range(len(reading.pdus)))
                    assert got == held[area][: 512 * blocks]
            it.step()
        assert it.ended == 60
        assert it.lost
        w.nop_out()                                     # the last to be acknowledged is so by what comes after it
        r.until(lambda: all(each["kept"] < 60 for each in r.reactor.stats()["connections"]))
