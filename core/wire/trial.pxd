# Whether it pays to stay awake for the next command.
from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef struct lnt_evidence:          # of turns whose commands were waited for in one way
    double count, sum, squares     # of microseconds a command from the last turn that had any to this one

cdef struct lnt_trial:
    uint64_t heard_us              # when the last turn was that brought commands
    uint32_t turns                 # that brought commands since the last trial began
    uint8_t awake                  # how the next ones are waited for
    uint8_t pays                   # what the last trial found
    lnt_evidence evidence[2]       # asleep, awake

cdef void trial_heard(lnt_trial *t, uint64_t now_us, uint64_t commands) noexcept nogil

cdef class Trial:
    cdef lnt_trial trial
