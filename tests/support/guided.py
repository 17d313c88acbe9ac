"""Coverage-guided mutation without other tools: inputs that reach new line-to-line steps of some modules breed further ones."""

import random
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

Arc = tuple[str, int, int]


@contextmanager
def traced(part: str, arcs: set[Arc]) -> Iterator[None]:
    """Collect the steps that run in files whose path contains `part`."""
    previous = sys.gettrace()

    def enter(frame: FrameType, event: str, argument: Any) -> Any:
        name = frame.f_code.co_filename
        if part not in name:
            return None
        last = frame.f_lineno

        def step(frame: FrameType, event: str, argument: Any) -> Any:
            nonlocal last
            arcs.add((name, last, frame.f_lineno))
            last = frame.f_lineno
            return step

        return step

    sys.settrace(enter)
    try:
        yield
    finally:
        sys.settrace(previous)


def mutate(rng: random.Random, data: bytes, others: list[bytes], words: list[bytes]) -> bytes:
    """Some bytes changed, dropped, doubled, replaced by a word, or joined with another input."""
    out = bytearray(data)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(out) + 1)
        end = min(len(out), at + rng.choice((1, 1, 2, 4, 16, 48)))
        match rng.randrange(6):
            case 0:
                out[at:end] = rng.randbytes(end - at)
            case 1:
                del out[at:end]
            case 2:
                out[at:at] = out[at:end]
            case 3:
                out[at:end] = rng.choice(words)
            case 4:
                out[at:at] = rng.choice(words)
            case _:
                other = rng.choice(others)
                out[at:] = other[rng.randrange(len(other) + 1) :]
    return bytes(out[:20000])


def explore(
    run: Callable[[bytes], None], seeds: list[bytes], words: list[bytes], *, part: str, seed: int, seconds: float, least: int
) -> tuple[int, int]:
    """Run mutated inputs until the time is over and `least` were tried; (inputs tried, steps seen).

    `run` raises when an invariant breaks; the input is then in the AssertionError, in hexadecimal.
    """
    rng = random.Random(seed)
    corpus, seen, tried = list(seeds), set[Arc](), 0
    end = time.monotonic() + seconds
    while tried < least or time.monotonic() < end:
        data = corpus[tried] if tried < len(seeds) else mutate(rng, rng.choice(corpus), corpus, words)
        arcs: set[Arc] = set()
        try:
            with traced(part, arcs):
                run(data)
        except Exception as error:
            raise AssertionError(f"input {data.hex()}") from error
        if not arcs <= seen:
            seen |= arcs
            if tried >= len(seeds):
                corpus.append(data)
        tried += 1
    return tried, len(seen)
