"""Many requests of one kind to a medium at once: opening a large pool waits for a round trip a flight, not one a page.

A device whose calls may come from several threads says how many (`flights`); one with a page cache is told what will be read
(`will_need`). One that says neither, as those of the crash tests, is called in order, one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

FEW = 8                     # requests that threads are not worth
WINDOW = 1024               # requests whose results may wait for who asked

T = TypeVar("T")
R = TypeVar("R")
Place = tuple[int, int]     # offset and length in bytes


def each(device: Any, work: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    """What `work` returns for each item, in their order. The first error ends it; what is on its way ends before that is told."""
    flights = getattr(device, "flights", 1)
    if flights == 1 or len(items) <= FEW:
        yield from map(work, items)
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(min(flights, len(items)), thread_name_prefix="lunette-flight") as pool:
        for at in range(0, len(items), WINDOW):
            yield from pool.map(work, items[at:at + WINDOW])


def read_each(device: Any, places: Sequence[Place]) -> Iterator[bytes]:
    """The bytes of each place, in order. OSError."""
    will_need = getattr(device, "will_need", None)
    for at in range(0, len(places), WINDOW):
        part = places[at:at + WINDOW]
        if will_need is not None:
            for offset_bytes, length_bytes in part:
                will_need(offset_bytes, length_bytes)
        yield from each(device, lambda place: device.read(*place), part)


def write_each(device: Any, writes: Sequence[tuple[int, bytes]]) -> None:
    """Write (offset, data) of each, which do not overlap, in any order. OSError."""
    for _ in each(device, lambda write: device.write(*write), writes):
        pass


def allocate_each(device: Any, places: Sequence[Place]) -> list[OSError | None]:
    """Have each place allocated; for each the error, None: it is."""
    return list(each(device, lambda place: _allocated(device, place), places))


def copy_in_place(device: Any, places: Sequence[Place]) -> None:
    """Write again what each place holds. OSError."""
    for _ in each(device, lambda place: device.write(place[0], device.read(*place)), places):
        pass


def _allocated(device: Any, place: Place) -> OSError | None:
    try:
        device.allocate(*place)
    except OSError as error:
        return error
    return None
