"""Lines of the log leave together, once a turn of the loop; what is urgent leaves at once."""

import asyncio
import contextlib
import logging
import os
from collections.abc import Iterator

from target.server.logs import LineFormatter, Stderr


@contextlib.contextmanager
def stderr() -> Iterator[int]:
    """The reading end of a pipe that is this process's stderr meanwhile."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    kept = os.dup(2)
    os.dup2(writing, 2)
    try:
        yield reading
    finally:
        os.dup2(kept, 2)
        for each in (reading, writing, kept):
            os.close(each)


def read(pipe: int) -> list[str]:
    try:
        return os.read(pipe, 65536).decode().splitlines()
    except BlockingIOError:
        return []


async def test_lines_of_one_turn_leave_together() -> None:
    with stderr() as written:
        await together(written)


async def together(written: int) -> None:
    log = logging.Logger("part")
    log.addHandler(Stderr())
    log.info("one")
    log.info("two \ud800")
    assert read(written) == []
    await asyncio.sleep(0)
    assert read(written) == ["one", "two \\ud800"]
    log.info("three")
    log.warning("now")
    assert read(written) == ["three", "now"]


def test_without_a_loop_each_line_leaves_at_once() -> None:
    with stderr() as written:
        log = logging.Logger("part")
        log.addHandler(Stderr())
        log.info("one")
        assert read(written) == ["one"]


def test_a_time_that_is_kept_for_a_second_is_the_time_of_each_line() -> None:
    plain, kept = logging.Formatter("%(asctime)s %(name)s %(levelname)s: %(message)s"), LineFormatter()
    for created in (0.0, 0.999, 1.0, 1795977283.25, 1795977283.75, 1795977284.0):
        record = logging.makeLogRecord({"name": "part", "levelname": "INFO", "msg": "text", "created": created,
                                        "msecs": created % 1 * 1000})
        assert kept.format(record) == plain.format(record)
