# Safeguards that tests switch off one at a time (tests/crash/test_mutations.py).


cpdef enum mutation:           # tests/crash switches one safeguard off at a time
    M_NO_DATA_SYNC = 1
    M_NO_JOURNAL_SYNC = 2
    M_NO_CKPT_SYNC = 4
    M_EARLY_FREE = 8
    M_NO_HOME_HOLD = 16
    M_NO_EPOCH = 32
    M_NO_NODE_CRC = 64
    M_NO_FRAME_CRC = 128
    M_ACCEPT_SOFT = 256
    M_SPLIT_ATOMIC = 512
    M_NO_RECOVERY_SYNC = 1024
    M_NO_REWRITE = 2048
    M_EARLY_PUNCH = 4096
    M_NO_PUNCH_HOLD = 8192
    M_NO_CLOSE_SYNC = 1 << 14   # between the superblock's copies at close
    M_NO_DIRECTORY_CRC = 1 << 15
    M_NO_GEN = 1 << 16          # generations of pages
    M_NO_SPACE_SUM = 1 << 17    # counts against summaries, summaries against the superblock
    M_NO_SUPER_SYNC = 1 << 18   # between the superblock and what it sets free
    M_NO_HOME_SYNC = 1 << 19    # of a checkpoint's pages at home
    M_NO_RANGE_LOCK = 1 << 20
    M_NO_SETTLE = 1 << 21       # writes in place that were planned before a share
    M_NO_MERGE_CHECK = 1 << 22
    M_NO_INFLIGHT = 1 << 23     # blocks of writes in flight in the pending list
    M_NO_SUPER_CRC = 1 << 24
    M_NO_IMAGE_CRC = 1 << 25
    M_NO_DATA_CRC = 1 << 26
    M_NO_SYNCED_UPTO = 1 << 27
    M_NO_LEAP = 1 << 28
    M_ADMIN_SOFT = 1 << 29
    M_NO_DISTRUST = 1 << 30
    M_NO_SUPER_REWRITE = 0x100000000   # of the superblock that recovery finds
    M_ONE_EPOCH = 0x200000000          # and not two, until freed blocks are used again
    M_NO_LOCK_GRACE = 0x400000000      # between a range lock and what it is taken for
    M_EARLY_SHARE = 0x800000000        # acknowledged while writes in place are under way to what it shares
    M_SLICES_UNSEEN = 0x1000000000     # what works in slices takes no place in line
    M_FIRST_HINT = 0x2000000000        # a leaf that becomes a huge entry takes its first block's hint for all
    M_SHORT_DIFF = 0x4000000000        # nothing behind the smaller of two maps is compared
    M_EARLY_REVERT = 0x8000000000      # acknowledged while writes in place are under way to its safety snapshot
    M_FIRST_RECORD = 0x10000000000     # of a frame is written again by recovery, and no other
    M_SPLIT_PUBLISH = 0x20000000000    # its records lie in two frames
    M_BLIND_PUBLISH = 0x40000000000    # the volume follows, whatever was written to it
