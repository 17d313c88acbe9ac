"""Windows onto the page cache: what a reactor's thread copies from and to there, without a system call (docs/performance.md).

A window maps a part of the pool's file, and knows which of its pages a system call has found in the cache or left there. One of
them may have gone since: then the copy waits for the disk, or fails (core/wire/mapio.h), and what was known of its group is
forgotten. Where copies wait for longer than they save, and for more than a little of the time, memory is wanted for something
else: then all is forgotten, and nothing is noted for a while.

A page's first write through a mapping after it was written back takes a fault, and makes all of its folio dirty, which may be 2
MiB. So only hot groups, of 2 MiB, are written so: those of which four fifths are dirty and were written half as often again in
this epoch, or all was written four times in the one before; half as much will do in an epoch that has lasted for a while, and so
is likely to last. An epoch ends with each sync of the process, and when pages fault that were writable: somebody else has written
back. Lives here and nowhere else: `lnt_windows`.
"""
from core.base.memory cimport mem_wider, mem_zeroed
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <fcntl.h>
    #include <sys/mman.h>
    #include <sys/resource.h>
    static void *lnt_window_map(int fd, size_t n, uint64_t off, int writable)
    {
        void *p = mmap(NULL, n, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, (off_t)off);
        if (p == MAP_FAILED)
            return NULL;
        madvise(p, n, MADV_RANDOM);     /* a page that has gone comes back alone, not with megabytes of holes around it */
        return p;
    }
    static int lnt_may_write(int fd)
    {
        int flags = fcntl(fd, F_GETFL);
        return flags >= 0 && (flags & O_ACCMODE) == O_RDWR;
    }
    static long lnt_faults(void)
    {
        struct rusage u;
        return getrusage(RUSAGE_THREAD, &u) ? 0 : u.ru_majflt;
    }
    static long lnt_minor_faults(void)
    {
        struct rusage u;
        return getrusage(RUSAGE_THREAD, &u) ? 0 : u.ru_minflt;
    }
    #define lnt_bits(word) __builtin_popcountll(word)
    /* Of all reactors: what one syncs is clean for all. */
    static struct { uint64_t over; int64_t under_way; uint64_t over_us; } lnt_window_syncs;
    static void lnt_sync_began(void) { __atomic_add_fetch(&lnt_window_syncs.under_way, 1, __ATOMIC_SEQ_CST); }
    static void lnt_sync_ended(uint64_t now_us)
    {
        __atomic_store_n(&lnt_window_syncs.over_us, now_us, __ATOMIC_RELAXED);
        __atomic_add_fetch(&lnt_window_syncs.over, 1, __ATOMIC_SEQ_CST);
        __atomic_sub_fetch(&lnt_window_syncs.under_way, 1, __ATOMIC_SEQ_CST);
    }
    static uint64_t lnt_syncs_over(void) { return __atomic_load_n(&lnt_window_syncs.over, __ATOMIC_RELAXED); }
    static uint64_t lnt_sync_over_us(void) { return __atomic_load_n(&lnt_window_syncs.over_us, __ATOMIC_RELAXED); }
    static int lnt_is_syncing(void) { return __atomic_load_n(&lnt_window_syncs.under_way, __ATOMIC_RELAXED) > 0; }
    """
    void *lnt_window_map(int fd, size_t n, uint64_t off, bint writable) nogil
    bint lnt_may_write(int fd) nogil
    long lnt_faults() nogil
    long lnt_minor_faults() nogil
    uint32_t lnt_bits(uint64_t word) nogil
    void lnt_sync_began() nogil
    void lnt_sync_ended(uint64_t now_us) nogil
    uint64_t lnt_syncs_over() nogil
    uint64_t lnt_sync_over_us() nogil
    bint lnt_is_syncing() nogil
    int munmap(void *p, size_t n) nogil

cdef enum:
    PAGE_BITS = 12
    IDLE_US = 1000000                 # a window that nobody has used for so long may go for another
    WAITS_PART = 50                   # of all time copies may wait for the disk ...
    WAITS_MOST_US = 50000             # ... up to so long at once, and for what copies save:
    SAVED_NS = 1000                   # ... one takes so much less than a call, however long it is,
    SAVED_MOST_US = 300000            # ... up to this. Else
    PAUSE_US = 1000000                # ... nothing is known for so long,
    PAUSE_MAX_US = 64000000           # ... and twice as long, up to this, where the next pause is soon needed, too
    REWRITE_MAX_BYTES = 16384         # of one copy: a fault a page must stay cheaper than the call
    GROUP_DIRTY = 410                 # of 512 pages: hot groups make at most 1.25 times as much dirty
    GROUP_WRITES = 768                # ... of pages: what is written once in an epoch is no dearer by calls ...
    LONG_US = 4000000                 # an epoch that lasts so long is one of few syncs: groups are hot the sooner ...
    LONG_DIRTY = 192                  # ... where all 512 are less than three times what is dirty
    LONG_WRITES = 256                 # ... and twice what was written
    LASTING_WRITES = 2048             # ... and from here on by far: the next epoch is likely to be such a one
    SURPRISES_MAX = 16                # faults in an epoch that nothing explains; one of them may be any memory's ...
    SURPRISES_PART = 64               # ... and one of so many pages may have gone: who writes back comes past them all
    JUDGE_COPIES = 32                 # between two looks at faults

cdef uint64_t WINDOW_BYTES = <uint64_t>1 << WINDOW_BITS


cdef long faults_now() noexcept nogil:
    """How often this thread has waited for a page that it touched."""
    return lnt_faults()


cdef void windows_open(lnt_windows *w, int fd) noexcept nogil:
    """None yet, of this file. Where it is open for writing hot groups are written by a copy, too."""
    memset(w, 0, sizeof(lnt_windows))
    w.fd = fd
    w.enabled = 1
    w.writable = lnt_may_write(fd)
    w.epoch = 1
    w.credit_us = WAITS_MOST_US
    w.surprises_most = SURPRISES_MAX
    w.syncs_over = lnt_syncs_over()
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
    if not w.began_us:
        w.began_us = now_us
    if w.until_us and now_us >= w.until_us:
        w.until_us = 0
    if w.syncs_over != lnt_syncs_over():
        w.syncs_over = lnt_syncs_over()
        epoch_ends(w, lnt_sync_over_us(), SURPRISES_MAX)


cdef void window_forget(lnt_windows *w, uint64_t offset, uint64_t length) noexcept nogil:
    """What is known of the groups that hold those bytes."""
    cdef uint64_t group = (offset >> PAGE_BITS) // GROUP_PAGES
    cdef lnt_window *v
    while group <= ((offset + length - 1) >> PAGE_BITS) // GROUP_PAGES and group // WINDOW_GROUPS < w.count:
        v = w.table[group // WINDOW_GROUPS]
        if v != NULL:
            memset(&v.known[group % WINDOW_GROUPS * GROUP_PAGES // 64], 0, GROUP_PAGES // 8)
        group += 1


cdef void windows_waited(lnt_windows *w, uint64_t offset, uint64_t length, uint64_t took_us, uint64_t now_us,
                         long faults) noexcept nogil:
    """A copy of those bytes took long. `faults`: as faults_now says; where it has not changed the thread only lost its core."""
    if faults == w.faults:
        return
    w.faults = faults
    window_forget(w, offset, length)
    credit_grows(w, now_us)
    if took_us > w.credit_us:
        pause_begins(w, now_us)
    else:
        w.credit_us -= took_us


cdef inline bint paused_lately(lnt_windows *w, uint64_t now_us) noexcept nogil:
    return w.pause_us and now_us < w.over_us + 2 * w.pause_us


cdef void credit_grows(lnt_windows *w, uint64_t now_us) noexcept nogil:
    """What copies may wait for: a part of the time since it was reckoned last, and what they have saved since.

    Not that where a pause was not long ago: who has no memory would be stopped for as long as copies gain, again and again.
    """
    if w.credit_us < WAITS_MOST_US:
        w.credit_us = min(w.credit_us + (now_us - w.reckoned_us) // WAITS_PART, <uint64_t>WAITS_MOST_US)
    if not paused_lately(w, now_us):
        w.credit_us = min(w.credit_us + w.pieces_copied * SAVED_NS // 1000, <uint64_t>SAVED_MOST_US)
    w.reckoned_us = now_us
    w.pieces_copied = 0


cdef void pause_begins(lnt_windows *w, uint64_t now_us) noexcept nogil:
    cdef bint again = paused_lately(w, now_us)
    cdef uint32_t i
    for i in range(w.opened):
        memset(w.open[i].known, 0, sizeof(w.open[i].known))
    w.credit_us = WAITS_MOST_US
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
    v.at = <uint8_t *>lnt_window_map(w.fd, WINDOW_BYTES, index << WINDOW_BITS, w.writable)
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


# -- hot groups --------------------------------------------------------------------------------------------------------


cdef inline void epoch_ends(lnt_windows *w, uint64_t ended_us, uint64_t surprises_most) noexcept nogil:
    w.epoch += 1
    w.began_us = ended_us
    w.surprises = w.entered = 0
    w.surprises_most = surprises_most
    w.judging = 0


cdef void sync_begins() noexcept nogil:
    """Of the file, by a reactor's ring."""
    lnt_sync_began()


cdef void sync_ended(uint64_t now_us) noexcept nogil:
    """... and all pages that were dirty before it began are clean."""
    lnt_sync_ended(now_us)


cdef lnt_window *window_of_epoch(lnt_windows *w, uint64_t offset) noexcept nogil:
    """The window of that part of the file, if it is open; what it counted in another epoch is forgotten."""
    cdef uint64_t index = offset >> WINDOW_BITS
    cdef lnt_window *v = w.table[index] if index < w.count else NULL
    if v != NULL and v.epoch != w.epoch:
        v.epoch = w.epoch
        memset(v.dirty, 0, sizeof(v.dirty))
        memset(v.entered, 0, sizeof(v.entered))
        memset(v.groups, 0, sizeof(v.groups))
    return v


cdef inline bint is_hot(lnt_windows *w, lnt_window *v, uint64_t page) noexcept nogil:
    return v.hot_epoch[page // GROUP_PAGES] >= w.epoch


cdef void count_written(lnt_windows *w, lnt_window *v, uint64_t first, uint64_t last) noexcept nogil:
    """Those pages of the window are written, by whatever way."""
    cdef uint64_t word, bits
    cdef lnt_group *g
    cdef bint lasts = w.now_us >= w.began_us + LONG_US
    cdef uint32_t dirty_least = LONG_DIRTY if lasts else GROUP_DIRTY, writes_least = LONG_WRITES if lasts else GROUP_WRITES
    for word in range(first // 64, last // 64 + 1):
        bits = pages_of_word(word, first, last)
        g = &v.groups[word * 64 // GROUP_PAGES]
        g.writes += lnt_bits(bits)
        g.dirty += lnt_bits(bits & ~v.dirty[word])
        v.dirty[word] |= bits
        if g.writes >= writes_least and g.dirty >= dirty_least:
            v.hot_epoch[word * 64 // GROUP_PAGES] = w.epoch + (g.writes >= LASTING_WRITES)


cdef uint32_t touch(uint64_t *seen, uint64_t first, uint64_t last) noexcept nogil:
    """How many of those pages were not seen before."""
    cdef uint64_t word, bits
    cdef uint32_t n = 0
    for word in range(first // 64, last // 64 + 1):
        bits = pages_of_word(word, first, last)
        n += lnt_bits(bits & ~seen[word])
        seen[word] |= bits
    return n


cdef void window_wrote(lnt_windows *w, uint64_t offset, uint64_t length) noexcept nogil:
    """A system call has written those bytes."""
    cdef uint64_t at = offset & (WINDOW_BYTES - 1)
    cdef lnt_window *v
    if not w.writable or w.until_us or at + length > WINDOW_BYTES:
        return
    v = window_of_epoch(w, offset)
    if v != NULL:
        count_written(w, v, at >> PAGE_BITS, (at + length - 1) >> PAGE_BITS)


cdef void window_touched(lnt_windows *w, uint64_t offset, uint64_t length) noexcept nogil:
    """Those bytes, which window_find found, have been read: their pages may have faulted."""
    cdef uint64_t at = offset & (WINDOW_BYTES - 1)
    w.pieces_copied += 1
    if w.judging:
        w.expected += touch(w.table[offset >> WINDOW_BITS].touched, at >> PAGE_BITS, (at + length - 1) >> PAGE_BITS)


cdef uint8_t *window_rewrite(lnt_windows *w, uint64_t offset, uint64_t length) noexcept nogil:
    """Where those bytes are to be copied to. NULL: a system call must write them."""
    cdef uint64_t at = offset & (WINDOW_BYTES - 1)
    cdef uint64_t first = at >> PAGE_BITS, last = (at + length - 1) >> PAGE_BITS
    cdef lnt_window *v
    cdef uint32_t n
    if not w.writable or length > REWRITE_MAX_BYTES or window_find(w, offset, length) == NULL:
        return NULL
    v = window_of_epoch(w, offset)
    if not is_hot(w, v, first) or not is_hot(w, v, last):
        return NULL
    if not w.judging:
        w.judging = 1
        w.judge_at = w.rewrites + JUDGE_COPIES
        w.expected = 0
        w.minor_faults = lnt_minor_faults()
    count_written(w, v, first, last)
    touch(v.touched, first, last)
    n = touch(v.entered, first, last)
    w.expected += n
    w.entered += n
    w.rewrites += 1
    w.pieces_copied += 1
    return v.at + at


cdef void windows_judge(lnt_windows *w) noexcept nogil:
    """After the copies of a turn: more faults than pages that were new to the mapping say that pages have been written back.

    Not while a sync of our own is under way: it is expected to, and ends the epoch. Who else writes back comes past each page
    once, and may do so while the next epoch is young: that one ends early only where each has been surprising again.
    """
    cdef long faults
    if not w.judging or w.rewrites < w.judge_at:
        return
    w.judging = 0
    faults = lnt_minor_faults() - w.minor_faults
    if lnt_is_syncing() or faults <= <long>w.expected:
        return
    w.surprises += <uint64_t>faults - w.expected
    if w.surprises > max(w.surprises_most, w.entered // SURPRISES_PART):
        epoch_ends(w, w.now_us, max(w.entered, <uint64_t>SURPRISES_MAX))


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
        if at == NULL:
            return None
        window_touched(&self.windows, offset, length)
        return (<const char *>at)[:length]

    def wrote(self, uint64_t offset, uint64_t length):
        window_wrote(&self.windows, offset, length)

    def rewrite(self, uint64_t offset, const uint8_t[::1] data):
        cdef uint8_t *at = window_rewrite(&self.windows, offset, data.shape[0])
        if at != NULL:
            memcpy(at, &data[0], data.shape[0])
        return at != NULL

    def judge(self):
        windows_judge(&self.windows)

    def sync_begins(self):
        sync_begins()

    def sync_ended(self, uint64_t now_us):
        sync_ended(now_us)

    def waited(self, uint64_t offset, uint64_t length, uint64_t took_us, uint64_t now_us, long more_faults):
        windows_waited(&self.windows, offset, length, took_us, now_us, self.windows.faults + more_faults)

    @property
    def epoch(self):
        return self.windows.epoch

    @property
    def opened(self):
        return self.windows.opened
