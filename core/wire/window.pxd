# Windows onto the page cache of the pool's file.
from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef enum:
    WINDOW_BITS = 27               # a window is 128 MiB of the file
    WINDOW_WORDS = 512             # ... of 64 pages of 4 KiB each
    WINDOWS_MAX = 128              # 16 GiB: 32 MiB of page tables, and 0.5 MiB of what is known
    WAIT_US = 50                   # a copy that takes longer may have waited for the disk

cdef struct lnt_window:
    uint8_t *at
    uint64_t index                 # which part of the file it is
    uint64_t used_us
    uint64_t known[WINDOW_WORDS]   # a bit a page: a system call found it in the cache, or left it there

cdef struct lnt_windows:
    int fd
    uint8_t enabled
    lnt_window **table             # by index; NULL: there is none
    uint64_t count                 # of the table
    lnt_window *open[WINDOWS_MAX]
    uint32_t opened
    uint32_t hand                  # which of them is looked at next when another is wanted
    uint64_t now_us
    uint64_t until_us              # nothing is known or noted until then; 0: it is
    uint64_t pause_us              # how long the last pause was ...
    uint64_t over_us               # ... and when it ended
    uint64_t copies
    long faults                    # of this thread, that waited for the disk

cdef void windows_open(lnt_windows *w, int fd) noexcept nogil
cdef void windows_close(lnt_windows *w) noexcept nogil
cdef void windows_turn(lnt_windows *w, uint64_t now_us) noexcept nogil
cdef void windows_waited(lnt_windows *w, uint64_t now_us, long faults) noexcept nogil
cdef const uint8_t *window_find(lnt_windows *w, uint64_t offset, uint64_t length) noexcept nogil
cdef void window_note(lnt_windows *w, uint64_t offset, uint64_t length) noexcept nogil
cdef long faults_now() noexcept nogil

cdef class Windows:
    cdef lnt_windows windows
