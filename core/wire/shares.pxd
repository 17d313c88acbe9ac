# What one host's sessions have of a turn and of the medium, and all hosts that are served: written by core/wire/share.pyx alone.
from core.base.types cimport lnt_op
from libc.stdint cimport uint32_t, uint64_t

cdef struct lnt_share:
    lnt_share *next
    uint64_t host                  # 0: of a session that shares with none
    uint64_t turn                  # that `used` is of
    uint32_t sessions
    uint32_t used
    uint32_t in_flight             # that the engine has of it, by what each counts as
    lnt_op *head                   # that wait for a later turn, in order
    lnt_op *tail

cdef struct lnt_shares:
    lnt_share *first
    lnt_share *last                # whose command came last ...
    uint64_t changed_us            # ... and when one came of another host than the one before, or ended beside another's
    uint64_t behind_us             # when the medium last had one of a turn before
    uint32_t waiting               # ops that wait for a later turn
    uint32_t busy                  # shares that have some in flight
