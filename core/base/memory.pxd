# Memory of the native core: every allocation, so that tests can let each fail in turn. `free` is C's own.
cdef void *mem_new(size_t size_bytes) noexcept nogil
cdef void *mem_zeroed(size_t size_bytes) noexcept nogil
cdef void *mem_aligned(size_t size_bytes) noexcept nogil
cdef void *mem_mapped(size_t size_bytes, size_t grain_bytes) noexcept nogil
cdef void *mem_wider(void *old, size_t size_bytes) noexcept nogil
cdef int mem_widen(void **array, size_t size_bytes) noexcept nogil
