def fail(after: int, count: int = 1) -> int:
    """For tests: `after` so many allocations more, `count` of them fail; -1: none.

    Returns how many have failed since the last call.
    """
