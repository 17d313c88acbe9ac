# Sparse leaves and their groups (docs/on-disk-format.md, "Sparse leaves").
from core.base.extent cimport lnt_extent
from core.base.object cimport lnt_object
from core.base.operation cimport lnt_waiter
from core.base.page cimport lnt_page
from core.base.pool cimport lnt_pool
from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    SPARSE_MOST = 15      # blocks that are mapped at once in a sparse leaf: as many as go in order of arrival

cdef void sparse_known(lnt_pool *p) noexcept nogil
cdef bint is_wide(lnt_pool *p, const lnt_object *o) noexcept nogil
cdef int sparse_extent(lnt_pool *p, lnt_waiter *who, uint64_t e, uint64_t lba, uint64_t most, int for_write, int own,
                       lnt_extent *out) noexcept nogil
cdef int sparse_filled(lnt_pool *p, lnt_waiter *who, uint64_t e, uint64_t lba, uint32_t *filled) noexcept nogil
cdef int sparse_unhint(lnt_pool *p, lnt_waiter *who, uint64_t e, uint64_t lba, uint32_t n) noexcept nogil
cdef int region_open(lnt_pool *p, lnt_waiter *who, lnt_page *up, int idx) noexcept nogil
cdef int sparse_insert(lnt_pool *p, lnt_waiter *who, lnt_object *o, lnt_page *above, lnt_page *up, uint64_t lba, uint64_t pba,
                       int n, uint64_t hints, bint *done) noexcept nogil
cdef int sparse_remove(lnt_pool *p, lnt_waiter *who, lnt_page *up, int idx, uint64_t lba, uint32_t n,
                       uint32_t *removed) noexcept nogil
