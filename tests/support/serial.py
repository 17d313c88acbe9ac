"""Whether what overlapping operations answered, and left behind, has a serial order (docs/concurrency.md, "Range locks").

An operation that has its range alone (COMPARE AND WRITE, WRITE ATOMIC) is one step, and all others are before it or behind it as
a whole. Those others may meet each other in any order, place by place.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field

Place = Hashable                          # a sector of an object
Values = Mapping[Place, frozenset[int]]   # what each place may hold


@dataclass(eq=False)
class Act:
    """What one operation saw and did; `start` and `end` are instants: who ended before another began is before it."""

    start: int
    end: int
    alone: bool = False
    writes: dict[Place, int] = field(default_factory=dict)
    copies: dict[Place, Place] = field(default_factory=dict)     # to -> from
    reads: dict[Place, int] = field(default_factory=dict)        # all of these were seen
    refuted: dict[Place, int] = field(default_factory=dict)      # not all of these were there


def ordered(before: Mapping[Place, int], acts: list[Act], after: Mapping[Place, int]) -> bool:
    """True when some serial order explains all that the acts saw and what was there after them."""
    known = {place: frozenset((value,)) for place, value in before.items()}
    alone = [act for act in acts if act.alone]
    others = [act for act in acts if not act.alone]
    return any(_fits(known, list(order), others, after) for order in itertools.permutations(alone) if _in_time(order))


def _in_time(order: tuple[Act, ...]) -> bool:
    return all(first.start <= second.end for i, first in enumerate(order) for second in order[i + 1:])


def _fits(state: Values, alone: list[Act], others: list[Act], after: Mapping[Place, int]) -> bool:
    """Some of `others` come now, then the first of `alone`, then the rest of both."""
    for now in _choices(others, alone):
        rest = [act for act in others if act not in now]
        met = _mingle(state, now)
        if met is None:
            continue
        if not alone:
            if all(after[place] in met[place] for place in after):
                return True
            continue
        done = _step(met, alone[0])
        if done is not None and _fits(done, alone[1:], rest, after):
            return True
    return False


def _choices(others: list[Act], alone: list[Act]) -> Iterator[list[Act]]:
    """Which of the others may all be before the next one that is alone: all that must, none that cannot."""
    if not alone:
        yield others
        return
    must = [act for act in others if act.end < alone[0].start]
    may = [act for act in others if act not in must and all(act.start <= later.end for later in alone)]
    for count in range(len(may) + 1):
        for chosen in itertools.combinations(may, count):
            now = [*must, *chosen]
            if all(left in now for act in now for left in others if left.end < act.start):
                yield now


def _mingle(state: Values, acts: list[Act]) -> Values | None:
    """What may be there after acts that meet place by place. None: one of them saw what was never there."""
    if not acts:
        return state
    wrote: dict[Place, list[tuple[Act, frozenset[int]]]] = {}
    for act in acts:
        for place, value in act.writes.items():
            wrote.setdefault(place, []).append((act, frozenset((value,))))
    met = {place: state[place].union(*(values for _, values in wrote.get(place, ()))) for place in state}
    for _ in range(2):                    # a copy of a copy
        for act in acts:
            for to, origin in act.copies.items():
                if to in state and origin in state:
                    met[to] |= met[origin]
    for act in acts:
        for to, origin in act.copies.items():
            wrote.setdefault(to, []).append((act, met[origin] if origin in met else met.get(to, frozenset())))
        if any(place in met and value not in met[place] for place, value in act.reads.items()):
            return None
    out = dict(state)
    for place, found in wrote.items():
        if place in out:
            last = [values for act, values in found if not any(other.start > act.end for other, _ in found)]
            out[place] = frozenset().union(*last)
    return out


def _step(state: Values, act: Act) -> Values | None:
    """What is there after one that was alone; None: it cannot have seen what it says."""
    if any(value not in state[place] for place, value in act.reads.items()):
        return None
    if act.refuted and all(state[place] == frozenset((value,)) for place, value in act.refuted.items()):
        return None
    out = dict(state)
    out.update({place: frozenset((value,)) for place, value in act.reads.items()})
    out.update({place: frozenset((value,)) for place, value in act.writes.items()})
    return out
