"""What one lock costs with more reactors than this machine has cores: a closed queue of one server, by mean values.

Each reactor alternates between work of its own and the engine under its lock. Mean value analysis (Reiser and
Lavenberg, 1980) solves that exactly for exponential times; a turn's batch of commands is one such alternation.
"""

REACTORS = (2, 4, 8, 16)


def gain(command_us: float, locked_us: float, reactors: int) -> float:
    """How many times one reactor's rate `reactors` of them reach, of whose `command_us` each command `locked_us` are locked."""
    if not 0 < locked_us < command_us:
        raise ValueError(f"of {command_us} us a command {locked_us} are to be locked")
    alone_us = command_us - locked_us
    waiting = 0.0
    rate_us = 0.0
    for present in range(1, reactors + 1):
        stay_us = locked_us * (1 + waiting)
        rate_us = present / (alone_us + stay_us)
        waiting = rate_us * stay_us
    return rate_us * command_us
