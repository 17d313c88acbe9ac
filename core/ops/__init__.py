"""Operations: READ, WRITE, UNMAP and the rest as state machines, and changes of objects.

May import all rooms but core.pool, core.wire and core.stream.
"""
