"""What a schedule would do: its runs to come, each on what the runs before it leave. Pure: no clock, no pool, no I/O."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from target.volumes.retention import Calendar, Taken, all_expendable
from target.volumes.schedules import Schedule, snapshot_label


@dataclass(frozen=True, slots=True)
class Run:
    """One run as it would be: when, which volumes are snapshotted, and what goes afterwards."""

    at_s: float
    taken: Sequence[Taken]
    gone: Sequence[Taken]


def preview(schedule: Schedule, volumes: Sequence[tuple[int, str]], taken: Collection[Taken], now_s: float) -> Iterator[Run]:
    """The runs to come, each with what it does to what the ones before it leave; a missed run is done at once.

    `volumes` are (id, name) of those selected. What must not go now is taken to stay so; what runs make is free to go.
    """
    calendar = Calendar(schedule.zone)
    present = {each.id: each for each in taken}
    number = max(present, default=0)

    def run(at_s: float) -> Run:
        nonlocal number
        made = []
        for volume_id, name in volumes:
            number += 1
            made.append(Taken(number, volume_id, at_s, f"{name}@{snapshot_label(schedule.name, at_s)}"))
        present.update({each.id: each for each in made})
        gone = all_expendable(schedule.keep, present.values(), at_s, calendar)
        for each in gone:
            del present[each.id]
        return Run(at_s, made, gone)

    if schedule.due(now_s) is not None:
        yield run(now_s)
    for at_s in schedule.runs(now_s):
        yield run(at_s)
