"""The reactor's device: reads, writes, syncs and discards of the pool on its io_uring, or inline where that is cheaper.

Those of a pool on Ceph are librbd's (core/wire/image.pyx).

Inline: memory-backed files (copied through a mapping), reads the page cache can answer, and writes into it, which the kernel
would hand to worker threads. Lives here and nowhere else: `lnt_disk`.
"""
from core.base.types cimport IOF_AWAITED, IOF_NEW, IO_ALLOCATE, IO_DISCARD, IO_READ, IO_SYNC, IO_WRITE, iovec
from core.wire.image cimport image_close, image_finished, image_open, image_submit
from core.wire.lone cimport lone_synced, lone_takes
from core.wire.mapping cimport mapping_give, mapping_take
from core.wire.tags cimport TAG_DEVICE, TAG_IMAGE
from core.wire.throttle cimport SLOW_WRITE_US, throttle_wrote, throttled
from core.wire.uring cimport (
    IORING_OP_READ, IORING_OP_READV, IORING_OP_WRITE, lnt_prep_fallocate, lnt_prep_fdatasync, lnt_prep_read_fd, lnt_prep_rw,
)
from core.wire.waves cimport waves_ended, waves_give, waves_next, waves_open, waves_turn
from core.wire.window cimport (
    WAIT_US, faults_now, sync_begins, sync_ended, window_find, window_note, window_rewrite, window_touched, window_wrote,
    windows_close, windows_judge, windows_open, windows_turn, windows_waited,
)
from libc.errno cimport EINTR, EIO, ENOSPC, errno
from libc.stdint cimport uintptr_t
from libc.string cimport memset

cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <fcntl.h>
    #include <sys/resource.h>
    #include <sys/stat.h>
    #include <sys/sysmacros.h>
    #include <sys/uio.h>
    #include <sys/vfs.h>
    #include <unistd.h>
    #ifndef FALLOC_FL_KEEP_SIZE
    #define FALLOC_FL_KEEP_SIZE 1
    #define FALLOC_FL_PUNCH_HOLE 2
    #endif
    static int lnt_memory_backed(int fd)
    {
        struct statfs s;
        struct stat st;
        if (fstat(fd, &st) || !S_ISREG(st.st_mode) || fstatfs(fd, &s))
            return 0;
        return s.f_type == 0x01021994 || s.f_type == (__typeof__(s.f_type))0x858458f6;    /* tmpfs, ramfs */
    }
    static int lnt_on_ext4(int fd)
    {
        struct statfs s;
        return !fstatfs(fd, &s) && s.f_type == 0xef53;
    }
    static int lnt_may_have_windows(int fd)     /* file systems whose mappings are their page cache, and cost little */
    {
        struct statfs s;
        return !fstatfs(fd, &s) && (s.f_type == 0xef53 || s.f_type == 0x58465342);     /* ext4, XFS */
    }
    static int lnt_is_device(int fd)
    {
        struct stat info;
        return fstat(fd, &info) == 0 && S_ISBLK(info.st_mode);
    }
    static int lnt_is_on_loop(int fd)           /* a loop device (its major number is fixed), or a file system on one */
    {
        struct stat info;
        return !fstat(fd, &info) && major(S_ISBLK(info.st_mode) ? info.st_rdev : info.st_dev) == 7;
    }
    static int lnt_is_buffered_file(int fd)
    {
        struct stat st;
        int flags = fcntl(fd, F_GETFL);
        return flags >= 0 && !(flags & O_DIRECT) && !fstat(fd, &st) && S_ISREG(st.st_mode);
    }
    static uint64_t lnt_file_bytes(int fd)
    {
        struct stat st;
        return fstat(fd, &st) ? 0 : (uint64_t)st.st_size;
    }
    static long lnt_blocked(void)       /* how often this thread has waited (being preempted does not count) */
    {
        struct rusage u;
        return getrusage(RUSAGE_THREAD, &u) ? 0 : u.ru_nvcsw;
    }
    static int lnt_punch(int fd, uint64_t off, uint64_t len)
    {
        return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off, (off_t)len);
    }
    static ssize_t lnt_read_cached(int fd, void *buf, size_t n, uint64_t off)    /* what is in the page cache, without waiting */
    {
        struct iovec v = { .iov_base = buf, .iov_len = n };
        return preadv2(fd, &v, 1, (off_t)off, RWF_NOWAIT);
    }
    #define LNT_ZERO (FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE)
    #define LNT_PUNCH (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)
    """
    int lnt_memory_backed(int fd) nogil
    int lnt_on_ext4(int fd) nogil
    int lnt_may_have_windows(int fd) nogil
    int lnt_is_buffered_file(int fd) nogil
    int lnt_is_device(int fd) nogil
    int lnt_is_on_loop(int fd) nogil
    uint64_t lnt_file_bytes(int fd) nogil
    long lnt_blocked() nogil
    int lnt_punch(int fd, uint64_t off, uint64_t len) nogil
    ssize_t lnt_read_cached(int fd, void *buf, size_t n, uint64_t off) nogil
    int LNT_PUNCH
    int LNT_ZERO
    int FALLOC_FL_KEEP_SIZE
    ssize_t pread(int fd, void *buf, size_t n, long off) nogil
    ssize_t preadv(int fd, const iovec *v, int n, long off) nogil
    ssize_t pwrite(int fd, const void *buf, size_t n, long off) nogil
    int fdatasync(int fd) nogil

cdef extern from "base/native.h" nogil:
    uint64_t lnt_mono_us()
    void lnt_soon(const void *at)

cdef extern from "wire/mapio.h" nogil:
    void lnt_copy_prepare()
    int lnt_copy(void *to, const void *source, size_t n, bint there)

cdef enum:
    RW_BYTES_MAX = 0x40000000
    CACHED_MAX = 16                   # reads are tried inline until this many hits less four times the misses are used up
    NEW_BYTES = 65536                 # new blocks in a memory-backed file: from here on written, not copied
    GAP_BYTES = 32768                 # a request costs as much as to read so many ...
    GAP_CACHED_BYTES = 8192           # ... of the page cache
    FOLIO_BYTES = 16384               # a new part of an ext4 file is written so much at a time (docs/performance.md)


cdef void vector_filled(lnt_io *io, uint64_t n) noexcept nogil:
    # So many bytes more have come.
    cdef iovec *v
    io.done_bytes += n
    while n:
        v = &io.vector[io.parts_done]
        if n < v.iov_len:
            v.iov_base = <uint8_t *>v.iov_base + n
            v.iov_len -= n
            return
        n -= v.iov_len
        io.parts_done += 1


cdef void prep(lnt_disk *d, lnt_io *io) noexcept nogil:
    cdef uint64_t at = io.done_bytes
    cdef uint64_t left = io.length - at
    cdef uint64_t tag = <uintptr_t>io | TAG_DEVICE
    if io.vector != NULL:
        lnt_prep_rw(d.ring, IORING_OP_READV, <int>d.file, io.vector + io.parts_done, io.parts - io.parts_done, io.offset + at,
                    tag)
    elif io.kind == IO_READ or io.kind == IO_WRITE:
        if left > RW_BYTES_MAX:
            left = RW_BYTES_MAX
        lnt_prep_rw(d.ring, IORING_OP_READ if io.kind == IO_READ else IORING_OP_WRITE, <int>d.file,
                    <uint8_t *>io.buf + at, <uint32_t>left, io.offset + at, tag)
    elif io.kind == IO_SYNC:
        d.syncing += 1
        sync_begins()
        lnt_prep_fdatasync(d.ring, <int>d.file, tag)
    elif io.kind == IO_ALLOCATE:
        lnt_prep_fallocate(d.ring, <int>d.file, LNT_ZERO if d.device else FALLOC_FL_KEEP_SIZE, io.offset, io.length, tag)
    else:
        io.took_us = lnt_mono_us()    # when it begins, until it is over
        d.discarding += 1
        lnt_prep_fallocate(d.ring, <int>d.file, LNT_PUNCH, io.offset, io.length, tag)


cdef inline bint in_waves(lnt_disk *d, lnt_io *io) noexcept nogil:
    # What is asked past the page cache ends when the device says so, not when a thread of the kernel has the time.
    return not d.page_cache and (io.kind == IO_READ or io.kind == IO_WRITE)


cdef int disk_submit(lnt_dev *dev, lnt_io *io) noexcept nogil:
    cdef lnt_disk *d = <lnt_disk *>dev.owner
    cdef bint own_sync = False
    io.next = NULL
    io.done_bytes = io.parts_done = 0
    if io.kind == IO_READ:
        d.reads += 1
        d.read_bytes += io.length
    elif io.kind == IO_WRITE:
        d.writes += 1
        d.write_bytes += io.length
    elif io.kind == IO_SYNC:
        d.syncs += 1
        own_sync = lone_takes(&d.lone, lnt_mono_us(), d.write_bytes,
                              d.own_syncs and io.flags & IOF_AWAITED != 0 and d.in_flight == 0)
    d.in_flight += 1
    if (d.image.handle != NULL or own_sync or (d.inline_io and io.kind != IO_ALLOCATE)
            or (io.kind == IO_WRITE and d.page_cache and d.throttle.until_us == 0)
            or (io.kind == IO_READ and d.page_cache and (d.dev.cached or d.reads % CACHED_MAX == 0))):
        if d.inline_tail != NULL:
            d.inline_tail.next = io
        else:
            d.inline_head = io
        d.inline_tail = io
    elif not in_waves(d, io) or waves_give(&d.waves, io, io.kind == IO_READ):
        prep(d, io)
    return 0


cdef bint disk_give(lnt_disk *d, uint64_t now_us) noexcept nogil:
    """What has ended lets reads begin that waited for it. True: there are some for the ring."""
    cdef lnt_io *io
    cdef bint any = False
    waves_turn(&d.waves, now_us)
    io = waves_next(&d.waves)
    while io != NULL:
        any = True
        prep(d, io)
        io = waves_next(&d.waves)
    return any


# Hands a finished request to the list the loop gives to the engine under its lock.
cdef inline void finished(lnt_disk *d, lnt_io *io, int32_t result) noexcept nogil:
    io.result = result
    io.next = NULL
    if d.done_tail != NULL:
        d.done_tail.next = io
    else:
        d.done_head = io
    d.done_tail = io
    d.in_flight -= 1


cdef inline void cache_has(lnt_disk *d, lnt_io *io) noexcept nogil:
    # A call has left there what it has read or written.
    if io.kind == IO_READ or io.kind == IO_WRITE:
        window_note(&d.windows, io.offset, io.length)
    if io.kind == IO_WRITE:
        window_wrote(&d.windows, io.offset, io.length)


cdef void disk_complete(lnt_disk *d, lnt_io *io, int32_t result) noexcept nogil:
    # A completion from the ring: short transfers go on where they stopped, an interrupted one again.
    cdef uint64_t at
    if io.kind == IO_DISCARD:
        io.took_us = lnt_mono_us() - io.took_us
        d.discarding -= 1
    elif io.kind == IO_SYNC:
        d.syncing -= 1
        sync_ended(lnt_mono_us())
        lone_synced(&d.lone, lnt_mono_us(), False)
    if result == -EINTR:
        prep(d, io)
        return
    if result > 0 and (io.kind == IO_READ or io.kind == IO_WRITE):
        at = io.done_bytes + <uint64_t>result
        if at < io.length:
            if io.vector != NULL:
                vector_filled(io, <uint64_t>result)
            io.done_bytes = at
            prep(d, io)
            return
        result = 0
    elif result >= 0:
        result = -EIO if io.kind == IO_READ else -ENOSPC if io.kind == IO_WRITE else 0
    if in_waves(d, io):
        waves_ended(&d.waves)
    if result == 0 and d.page_cache:
        cache_has(d, io)
    finished(d, io, result)


cdef int32_t file_rw(lnt_disk *d, lnt_io *io) noexcept nogil:
    cdef uint64_t at = 0
    cdef uint64_t part
    cdef ssize_t n
    while at < io.length:
        part = io.length - at
        if io.vector != NULL:
            n = preadv(d.fd, io.vector + io.parts_done, <int>(io.parts - io.parts_done), <long>(io.offset + at))
            if n > 0:
                vector_filled(io, <uint64_t>n)
        elif io.kind == IO_READ:
            n = pread(d.fd, <uint8_t *>io.buf + at, part, <long>(io.offset + at))
        else:
            if d.small_folios and io.flags & IOF_NEW and part > FOLIO_BYTES - (io.offset + at) % FOLIO_BYTES:
                part = FOLIO_BYTES - (io.offset + at) % FOLIO_BYTES
            n = pwrite(d.fd, <uint8_t *>io.buf + at, part, <long>(io.offset + at))
        if n < 0:
            if errno == EINTR:
                continue
            return -errno
        if n == 0:
            return -EIO if io.kind == IO_READ else -ENOSPC
        at += <uint64_t>n
    return 0


cdef int32_t mapped_rw(lnt_disk *d, lnt_io *io) noexcept nogil:
    cdef bint made = io.flags & IOF_NEW == 0
    if io.kind == IO_READ:
        return 0 if lnt_copy(io.buf, d.map + io.offset, io.length, False) == 0 else -EIO
    if not made and io.length >= NEW_BYTES:
        return file_rw(d, io)         # the file lacks these pages: writing makes them without clearing them first
    if lnt_copy(d.map + io.offset, io.buf, io.length, made) == 0:
        return 0
    if lnt_file_bytes(d.fd) < io.offset + io.length:
        return -EIO                   # somebody has cut the file: a write would make it longer again, and hide that
    return file_rw(d, io)             # no room for the page: said by the call


cdef int32_t punched(lnt_disk *d, lnt_io *io) noexcept nogil:
    cdef uint64_t began = lnt_mono_us()
    cdef int32_t result = 0 if lnt_punch(d.fd, io.offset, io.length) == 0 else -errno
    io.took_us = lnt_mono_us() - began
    return result


cdef int32_t perform(lnt_disk *d, lnt_io *io) noexcept nogil:
    if io.kind == IO_SYNC:
        while fdatasync(d.fd):
            if errno != EINTR:
                return -errno
        return 0
    if io.kind == IO_DISCARD:
        return punched(d, io)
    return mapped_rw(d, io) if io.offset + io.length <= d.map_bytes else file_rw(d, io)


cdef void cache_had(lnt_disk *d, lnt_io *io) noexcept nogil:
    # All of it: the next reads are tried there, too.
    if d.dev.cached < CACHED_MAX:
        d.dev.cached += 1
    finished(d, io, 0)


cdef inline void part_sought(lnt_disk *d, lnt_io *io, uint32_t i, uint64_t at) noexcept nogil:
    # The next part that is wanted, from the i-th on, which begins at `at`: its address is looked up while another is copied.
    if i < io.parts and io.vector[i].iov_base == io.unwanted:
        at += io.vector[i].iov_len
        i += 1
    if i < io.parts:
        lnt_soon(window_find(&d.windows, at, io.vector[i].iov_len))


cdef bint part_read(lnt_disk *d, uint64_t at, uint8_t *buf, uint64_t length) noexcept nogil:
    # From a window, or by a call that finds it in the page cache.
    cdef const uint8_t *source = window_find(&d.windows, at, length)
    if source != NULL:
        if lnt_copy(buf, source, length, False):
            return False
        window_touched(&d.windows, at, length)
        return True
    if lnt_read_cached(d.fd, buf, length, at) != <ssize_t>length:
        return False
    window_note(&d.windows, at, length)
    return True


cdef bint parts_read(lnt_disk *d, lnt_io *io) noexcept nogil:
    # What is wanted of a request of several parts, each to its place. What lies between them may be holes of the file, which a
    # call for all of it would bring into the page cache.
    cdef uint64_t at = io.offset, following
    cdef uint32_t i
    for i in range(io.parts):
        following = at + io.vector[i].iov_len
        part_sought(d, io, i + 1, following)
        if io.vector[i].iov_base != io.unwanted and not part_read(d, at, <uint8_t *>io.vector[i].iov_base, io.vector[i].iov_len):
            return False
        at = following
    return True


cdef bint whole_copied(lnt_disk *d, lnt_io *io) noexcept nogil:
    cdef const uint8_t *source = window_find(&d.windows, io.offset, io.length)
    if source == NULL or lnt_copy(io.buf, source, io.length, False):
        return False
    window_touched(&d.windows, io.offset, io.length)
    return True


cdef bint read_window(lnt_disk *d, lnt_io *io) noexcept nogil:
    # By copies, where the page cache is known to hold it. False: a system call must see; it also says what is wrong where the
    # file is shorter, or the medium fails.
    cdef uint64_t before = lnt_mono_us(), after
    if not (whole_copied(d, io) if io.vector == NULL else parts_read(d, io)):
        return False
    after = lnt_mono_us()
    if after - before > WAIT_US:
        windows_waited(&d.windows, io.offset, io.length, after - before, after, faults_now())
    d.windows.copies += 1
    return True


cdef void read_cached(lnt_disk *d, lnt_io *io) noexcept nogil:
    # What the page cache lacks is left to the ring. Where that is most of it, only one read in sixteen is tried here.
    cdef ssize_t n = 0
    if read_window(d, io):
        cache_had(d, io)
        return
    if io.vector == NULL:
        n = lnt_read_cached(d.fd, io.buf, io.length, io.offset)
    if n == <ssize_t>io.length:
        window_note(&d.windows, io.offset, io.length)
        cache_had(d, io)
        return
    d.dev.cached = d.dev.cached - 4 if d.dev.cached > 4 else 0
    if n > 0:
        io.done_bytes = <uint64_t>n
    prep(d, io)


cdef bint write_window(lnt_disk *d, lnt_io *io) noexcept nogil:
    # By a copy, where that makes hardly more dirty than is. False: a system call must write it, and says what is wrong. What is
    # new has no place in the file yet: only a call can say that there is none.
    cdef uint8_t *at = window_rewrite(&d.windows, io.offset, io.length) if io.flags & IOF_NEW == 0 else NULL
    return at != NULL and lnt_copy(at, io.buf, io.length, False) == 0


cdef void write_cached(lnt_disk *d, lnt_io *io, long waits) noexcept nogil:
    cdef uint64_t before = lnt_mono_us()
    cdef uint64_t after
    cdef bint copied = write_window(d, io)
    cdef int32_t result = 0 if copied else perform(d, io)
    after = lnt_mono_us()
    if copied and after - before > WAIT_US:
        windows_waited(&d.windows, io.offset, io.length, after - before, after, faults_now())
    elif result == 0 and not copied:
        cache_has(d, io)
    finished(d, io, result)
    if after - before > SLOW_WRITE_US:
        throttle_wrote(&d.throttle, before, after, lnt_blocked() != waits, d.discarding != 0)


cdef bint disk_run_inline(lnt_disk *d, uint64_t now_us) noexcept nogil:
    # Performs what submit put aside, without the engine's lock. True if anything finished.
    cdef lnt_io *io
    cdef lnt_io *following
    cdef long waits = -1
    throttled(&d.throttle, now_us)
    io = d.inline_head
    if io == NULL:
        return False
    d.inline_head = NULL
    d.inline_tail = NULL
    if d.image.handle != NULL:
        while io != NULL:
            following = io.next
            image_submit(&d.image, io)
            io = following
        return False
    if d.inline_io:
        while io != NULL:
            following = io.next
            if following != NULL and d.map != NULL:
                lnt_soon(d.map + following.offset)
            finished(d, io, perform(d, io))
            io = following
        return True
    windows_turn(&d.windows, now_us)
    while io != NULL:
        following = io.next
        if following != NULL:
            lnt_soon(following.next)
        if following != NULL and (following.kind == IO_READ or d.windows.judging):
            lnt_soon(window_find(&d.windows, following.offset, following.length))
        io.next = NULL
        if io.kind == IO_READ:
            read_cached(d, io)
        elif io.kind == IO_SYNC:
            sync_begins()
            finished(d, io, perform(d, io))
            sync_ended(lnt_mono_us())
        elif d.throttle.until_us:
            prep(d, io)
        else:
            if waits < 0:
                waits = lnt_blocked()
            write_cached(d, io, waits)
        io = following
    windows_judge(&d.windows)
    return True


cdef int disk_open(lnt_disk *d, lnt_ring *ring, int fd, uint32_t file, int inline_io) noexcept nogil:
    # inline_io: 1 yes, 0 no, -1 as the file system suggests. The caller fills dev.wake.
    memset(d, 0, sizeof(lnt_disk))
    d.ring = ring
    d.fd = fd
    d.file = file
    d.inline_io = <uint8_t>(lnt_memory_backed(fd) if inline_io < 0 else inline_io)
    d.copies = <uint8_t>lnt_is_buffered_file(fd)
    d.page_cache = <uint8_t>(inline_io != 0 and d.copies)
    d.own_syncs = <uint8_t>(inline_io != 0 and not d.inline_io)
    d.small_folios = <uint8_t>(d.page_cache and lnt_on_ext4(fd))
    d.dev.gap_bytes = 0 if d.inline_io else GAP_CACHED_BYTES if d.page_cache else GAP_BYTES
    d.device = <uint8_t>lnt_is_device(fd)
    d.loops = <uint8_t>lnt_is_on_loop(fd)
    waves_open(&d.waves)
    d.dev.submit = disk_submit
    d.dev.owner = d
    if d.page_cache and lnt_may_have_windows(fd):
        windows_open(&d.windows, fd)
        lnt_copy_prepare()
    if lnt_memory_backed(fd) and d.inline_io:
        d.map = <uint8_t *>mapping_take(fd, lnt_file_bytes(fd))
        if d.map != NULL:
            d.map_bytes = lnt_file_bytes(fd)
            lnt_copy_prepare()
    return 0


cdef int disk_image(lnt_disk *d, void *image, uint64_t object_bytes) noexcept nogil:
    # From here on the pool is an image of librbd's.
    cdef int rc = image_open(&d.image, image, object_bytes)
    d.dev.gap_bytes = 0
    if rc == 0:
        lnt_prep_read_fd(d.ring, d.image.wake_fd, &d.image.wake_value, 8, TAG_IMAGE)
    return rc


cdef void disk_image_woken(lnt_disk *d) noexcept nogil:
    # The ring has read the eventfd: what finishes from here on writes to it again.
    cdef lnt_io *io = image_finished(&d.image)
    cdef lnt_io *following
    lnt_prep_read_fd(d.ring, d.image.wake_fd, &d.image.wake_value, 8, TAG_IMAGE)
    while io != NULL:
        following = io.next
        finished(d, io, io.result)
        io = following


cdef void disk_close(lnt_disk *d) noexcept nogil:
    image_close(&d.image)
    windows_close(&d.windows)
    if d.map != NULL:
        mapping_give(d.map)
        d.map = NULL
        d.map_bytes = 0
