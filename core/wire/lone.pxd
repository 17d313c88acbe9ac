# Whether the reactor's own thread performs a sync.
from libc.stdint cimport uint32_t, uint64_t, uint8_t

cdef struct lnt_lone:
    uint8_t only                   # core/wire/loop.pyx: the reactor has one command, or none
    uint8_t here                   # this thread performs one: core/wire/loop.pyx sees who came meanwhile
    uint8_t heard                  # somebody said something since the last sync was asked for
    uint32_t quiet                 # syncs that were short and kept nobody waiting, less what long ones count
    uint64_t asked_us              # when the last one was asked for ...
    uint64_t written_bytes         # ... and what the device had been given by then
    uint64_t times                 # performed by this thread

cdef bint lone_takes(lnt_lone *l, uint64_t now_us, uint64_t written_bytes, bint awaited) noexcept nogil
cdef void lone_synced(lnt_lone *l, uint64_t now_us, bint heard) noexcept nogil

cdef class Lone:
    cdef lnt_lone lone
