"""Windows onto the page cache: what a reactor's thread reads there by a copy, not by a system call (docs/performance.md).

A window maps a part of the pool's file for reading, and knows which of its pages a system call has found in the cache or left
there. One of them may have gone since: then the copy waits for the disk, or fails (core/wire/mapio.h). A copy that waited says
that memory is wanted for something else, so all that was known is forgotten, and nothing is noted for a while. Lives here and
nowhere else: `lnt_windows`.
"""
from core.base.memory cimport mem_wider, mem_zeroed
from libc.stdlib cimport free
from libc.string cimport memset

cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <sys/mman.h>
    #include <sys/resource.h>
    static void *lnt_window_map(int fd, size_t n, uint64_t off)
    {
        void *p = mmap(NULL, n, PROT_READ, MAP_SHARED, fd, (off_t)off);
        return p == MAP_FAILED ? NULL : p;
    }
    static long lnt_faults(void)
    {
        struct rusage u;
        return getrusage(RUSAGE_THREAD, &u) ? 0 : u.ru_majflt;
    }
    """
    void *lnt_window_map(int fd, size_t n, uint64_t off) nogil
    long lnt_faults() nogil
    int munmap(void *p, size_t n) nogil

cdef enum:
    PAGE_BITS = 12
    IDLE_US = 1000000                 # a window that nobody has used for so long may go for another
    PAUSE_US = 1000000                # nothing is known for so long when a copy has waited ...
    PAUSE_MAX_US = 64000000           # ... and twice as long, up to this, where the next one soon waits, too

cdef uint64_t WINDOW_BYTES = <uint64_t>1 << WINDOW_BITS


cdef long faults_now() noexcept nogil:
    """How often this thread has waited for a page that it touched."""
    return lnt_faults()


cdef void windows_open(lnt_windows *w, int fd) noexcept nogil:
    """None yet, of this file."""
    memset(w, 0, sizeof(lnt_windows))
    w.fd = fd
    w.enabled = 1
    w.faults = lnt_faults()


cdef void windows_close(lnt_windows *w) noexcept nogil:
    cdef uint32_t i
    for i in range(w.opened):
        munmap(w.open[i].at, WINDOW_BYTES)
        free(w.open[i])
    free(w.table)
    memset(w, 0, sizeof(lnt_windows))


cdef void windows_turn(lnt_windows *w, uint64_t now_us) noexcept nogil:
    w.now_us = now_us
    if w.until_us and now_us >= w.until_us:
        w.until_us = 0


cdef void windows_waited(lnt_windows *w, uint64_t now_us, long faults) noexcept nogil:
    """A copy took long. `faults`: as faults_now says; where it has not changed the thread only lost its core."""
    cdef bint again
    cdef uint32_t i
    if faults == w.faults:
        return
    w.faults = faults
    for i in range(w.opened):
        memset(w.open[i].known, 0, sizeof(w.open[i].known))
    again = w.pause_us and now_us < w.over_us + 2 * w.pause_us
    w.pause_us = min(2 * w.pause_us, <uint64_t>PAUSE_MAX_US) if again else PAUSE_US
    w.until_us = w.over_us = now_us + w.pause_us


# -- windows -----------------------------------------------------------------------------------------------------------


cdef bint table_reaches(lnt_windows *w, uint64_t index) noexcept nogil:
    """Whether the table has a place for the window; it grows with the file."""
    cdef uint64_t count = index + 1 if index >= 2 * w.count else 2 * w.count
    cdef lnt_window **table
    if index < w.count:
        return True
    table = <lnt_window **>mem_wider(w.table, count * sizeof(lnt_window *))
    if table == NULL:
        return False
    memset(table + w.count, 0, (count - w.count) * sizeof(lnt_window *))
    w.table = table
    w.count = count
    return True


cdef lnt_window *window_new(lnt_windows *w) noexcept nogil:
    """One that is nowhere yet, or one that was idle. NULL: there is none, or no memory."""
    cdef lnt_window *v
    if w.opened < WINDOWS_MAX:
        return <lnt_window *>mem_zeroed(sizeof(lnt_window))
    v = w.open[w.hand]
    if v.used_us + IDLE_US > w.now_us:
        w.hand = (w.hand + 1) % WINDOWS_MAX
        return NULL
    munmap(v.at, WINDOW_BYTES)
    w.table[v.index] = NULL
    w.opened -= 1
    w.open[w.hand] = w.open[w.opened]
    memset(v, 0, sizeof(lnt_window))
    return v


cdef lnt_window *window_open(lnt_windows *w, uint64_t index) noexcept nogil:
    """The window of that part of the file. NULL: it cannot be had now."""
    cdef lnt_window *v
    if not table_reaches(w, index):
        return NULL
    if w.table[index] != NULL:
        return w.table[index]
    v = window_new(w)
    if v == NULL:
        return NULL
    v.at = <uint8_t *>lnt_window_map(w.fd, WINDOW_BYTES, index << WINDOW_BITS)
    if v.at == NULL:
        free(v)
        return NULL
    v.index = index
    w.open[w.opened] = w.table[index] = v
    w.opened += 1
    return v


# -- pages -------------------------------------------------------------------------------------------------------------


cdef inline uint64_t pages_of_word(uint64_t word, uint64_t first, uint64_t last) noexcept nogil:
    """The bits of the pages from `first` to `last` that stand in that word."""
    cdef uint64_t bits = ~<uint64_t>0
    if word == first // 64:
        bits &= ~<uint64_t>0 << (first % 64)
    if word == last // 64:
        bits &= ~<uint64_t>0 >> (63 - last % 64)
    return bits


cdef const uint8_t *window_find(lnt_windows *w, uint64_t offset, uint64_t length) noexcept nogil:
    """Where those bytes of the file can be copied from. NULL: not all of them are known to be in the cache, or in one window."""
    cdef uint64_t index = offset >> WINDOW_BITS
    cdef uint64_t at = offset & (WINDOW_BYTES - 1)
    cdef uint64_t first = at >> PAGE_BITS, last = (at + length - 1) >> PAGE_BITS, word, bits
    cdef lnt_window *v = w.table[index] if index < w.count and not w.until_us else NULL
    if v == NULL or at + length > WINDOW_BYTES:
        return NULL
    for word in range(first // 64, last // 64 + 1):
        bits = pages_of_word(word, first, last)
        if v.known[word] & bits != bits:
            return NULL
    v.used_us = w.now_us
    return v.at + at


cdef void window_note(lnt_windows *w, uint64_t offset, uint64_t length) noexcept nogil:
    """A system call has read or written those bytes: the pages are in the cache."""
    cdef uint64_t at = offset & (WINDOW_BYTES - 1)
    cdef uint64_t first = at >> PAGE_BITS, last = (at + length - 1) >> PAGE_BITS, word
    cdef lnt_window *v
    if not w.enabled or w.until_us or at + length > WINDOW_BYTES:
        return
    v = window_open(w, offset >> WINDOW_BITS)
    if v == NULL:
        return
    v.used_us = w.now_us
    for word in range(first // 64, last // 64 + 1):
        v.known[word] |= pages_of_word(word, first, last)


cdef class Windows:
    """For tests: onto a file of theirs, by a clock of theirs."""

    def __cinit__(self, int fd):
        windows_open(&self.windows, fd)

    def __dealloc__(self):
        windows_close(&self.windows)

    def turn(self, uint64_t now_us):
        windows_turn(&self.windows, now_us)

    def note(self, uint64_t offset, uint64_t length):
        window_note(&self.windows, offset, length)

    def read(self, uint64_t offset, uint64_t length):
        cdef const uint8_t *at = window_find(&self.windows, offset, length)
        return None if at == NULL else (<const char *>at)[:length]

    def waited(self, uint64_t now_us, long more_faults):
        windows_waited(&self.windows, now_us, self.windows.faults + more_faults)

    @property
    def opened(self):
        return self.windows.opened
