"""What everything else in core stands on: structs, byte access, constants of the format, how ops are scheduled.

Imports nothing of core.
"""
