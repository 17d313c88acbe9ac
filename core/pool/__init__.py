"""The engine as Python and native threads see it: the turn, the queue device, the Pool.

May import all rooms but core.wire and core.stream.
"""
