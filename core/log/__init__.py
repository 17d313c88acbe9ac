"""What makes changes durable: journal, superblock, checkpoint; recovery and replay.

May import all rooms but core.ops, core.pool, core.wire and core.stream.
"""
