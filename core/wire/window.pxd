# Windows onto the page cache of the pool's file.
from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef enum:
    WINDOW_BITS = 27               # a window is 128 MiB of the file
    WINDOW_WORDS = 512             # ... of 64 pages of 4 KiB each
    WINDOWS_MAX = 128              # 16 GiB: 32 MiB of page tables, and 2.2 MiB of what is known
    GROUP_PAGES = 512              # 2 MiB: what the kernel at most keeps, and makes dirty, as one
    WINDOW_GROUPS = 64
    WAIT_US = 50                   # a copy that takes longer may have waited for the disk

cdef struct lnt_group:             # of an epoch
    uint32_t writes                # of pages
    uint32_t dirty                 # pages that were written

cdef struct lnt_window:
    uint8_t *at
    uint64_t index                 # which part of the file it is
    uint64_t used_us
    uint64_t known[WINDOW_WORDS]   # a bit a page: a system call found it in the cache, or left it there
    uint64_t touched[WINDOW_WORDS]     # ... this thread has used it here
    uint64_t epoch                 # what the next three were counted in
    uint64_t dirty[WINDOW_WORDS]   # a bit a page: written
    uint64_t entered[WINDOW_WORDS]     # ... here, so that it can be written here without a fault
    lnt_group groups[WINDOW_GROUPS]
    uint64_t hot_epoch[WINDOW_GROUPS]  # the last one in which a group is hot; 0: none

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
    uint64_t credit_us             # so long copies might wait for the disk ...
    uint64_t reckoned_us           # ... then, and since then ...
    uint64_t pieces_copied         # ... so many copies were made, each instead of a call
    uint64_t pause_us              # how long the last pause was ...
    uint64_t over_us               # ... and when it ended
    uint64_t copies
    long faults                    # of this thread, that waited for the disk
    uint8_t writable               # hot groups are written by a copy, too
    uint8_t judging                # some were since faults were looked at ...
    uint64_t judge_at              # ... which is done again after so many
    uint64_t epoch
    uint64_t syncs_over            # of the process, when this thread looked last
    uint64_t expected              # pages since then that may have faulted because they were new here
    long minor_faults              # of this thread before
    uint64_t began_us              # this epoch
    uint64_t entered               # pages of this epoch that were written here
    uint64_t surprises             # faults in this epoch that nothing explains ...
    uint64_t surprises_most        # ... and how many do not end it
    uint64_t rewrites

cdef void windows_open(lnt_windows *w, int fd) noexcept nogil
cdef void windows_close(lnt_windows *w) noexcept nogil
cdef void windows_turn(lnt_windows *w, uint64_t now_us) noexcept nogil
cdef void windows_waited(lnt_windows *w, uint64_t offset, uint64_t length, uint64_t took_us, uint64_t now_us,
                         long faults) noexcept nogil
cdef const uint8_t *window_find(lnt_windows *w, uint64_t offset, uint64_t length) noexcept nogil
cdef void window_note(lnt_windows *w, uint64_t offset, uint64_t length) noexcept nogil
cdef void window_wrote(lnt_windows *w, uint64_t offset, uint64_t length) noexcept nogil
cdef void window_touched(lnt_windows *w, uint64_t offset, uint64_t length) noexcept nogil
cdef uint8_t *window_rewrite(lnt_windows *w, uint64_t offset, uint64_t length) noexcept nogil
cdef void windows_judge(lnt_windows *w) noexcept nogil
cdef void sync_begins() noexcept nogil
cdef void sync_ended(uint64_t now_us) noexcept nogil
cdef long faults_now() noexcept nogil

cdef class Windows:
    cdef lnt_windows windows
