# Files of memory that are mapped here, each once, whoever reads it.
cdef void *mapping_take(int fd, size_t n) noexcept nogil
cdef void mapping_give(void *at) noexcept nogil
