"""What a crash may leave of the keys: every change that was acknowledged, and any of those that were not, each whole."""

from __future__ import annotations

from collections.abc import Iterable

from tests.support.history import Op, Violation


def keys_changed(kv: dict[str, bytes], changes: dict[str, bytes | None]) -> dict[str, bytes]:
    both = {**kv, **changes}
    return {key: value for key, value in both.items() if value is not None}


def keys_left(kv: dict[str, bytes], made: Iterable[Op], perhaps: Iterable[Op], seen: dict[str, bytes],
              ) -> tuple[dict[str, bytes], set[Op]]:
    """What the keys are now that `seen` was found, and which of `perhaps` have happened. Those of `made` have, for certain."""
    for op in made:
        kv = keys_changed(kv, op.changes)
    options: list[tuple[dict[str, bytes], set[Op]]] = [(kv, set())]
    for op in perhaps:
        options += [(keys_changed(state, op.changes), ops | {op}) for state, ops in options]
    for state, ops in options:
        if state == dict(seen):
            return state, ops
    raise Violation(f"kv holds {sorted(seen)}, allowed {[sorted(s) for s, _ in options]}")
