# READ as a state machine over the map; pieces that lie near each other become one request.
from core.base.pool cimport lnt_pool
from core.base.types cimport iovec, lnt_op
from libc.stdint cimport uint32_t, uint64_t, uint8_t

cdef enum:
    GAP_BYTES_MOST = 65536        # between two pieces of one request
    JOINS = 8                     # requests that grow at a time: one for each generation that a region lies in, or so

cdef struct lnt_join:             # a request that may grow
    uint64_t start                # bytes of the pool
    uint64_t end                  # 0: there is none
    uint64_t touched              # the step in which it grew last
    uint8_t *buf                  # where its only piece goes
    iovec *vector                 # where several go; NULL: there is one
    uint32_t parts

cdef struct lnt_joins:
    lnt_join[JOINS] open
    uint64_t steps

cdef void read_run(lnt_pool *p, lnt_op *op) noexcept nogil
