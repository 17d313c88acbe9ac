# The structs that cross module borders in the native core: device requests, block operations, objects.
# Contract (docs/architecture.md, "The seams"): the engine plans, a device performs, an owner is told.
from libc.stdint cimport int32_t, uint16_t, uint32_t, uint64_t, uint8_t

cdef extern from "<sys/uio.h>" nogil:
    struct iovec:
        void *iov_base
        size_t iov_len

cdef enum lnt_io_kind:
    IO_READ = 1
    IO_WRITE = 2
    IO_SYNC = 3               # everything completed before this was submitted is durable when it succeeds
    IO_DISCARD = 4            # contents become undefined-or-zero; a failure is harmless
    IO_ALLOCATE = 5           # writes to the range cannot fail for want of room from here on; contents stay

cdef enum lnt_io_flag:
    IOF_NEW = 1               # WRITE: to blocks that hold nothing yet; a device whose medium grows may prepare for more of them
    IOF_AWAITED = 2           # SYNC: one command of this device's thread waits for it, and nothing else does

cdef enum lnt_op_kind:
    OP_READ = 1
    OP_WRITE = 2
    OP_SYNC = 3               # all writes completed before submission survive power loss when done
    OP_UNMAP = 4              # [offset, offset+length) reads as zeros afterwards; `result` further ranges: lnt_op.buf
    OP_COMPARE_WRITE = 5      # buf = length bytes to compare, then length bytes to write; atomic
    OP_WRITE_ATOMIC = 6       # at most L_ATOMIC_BLOCKS: all of it or nothing, to other ops and after a crash
    OP_MOVE = 7               # within one region, whole blocks: what lies scattered is put into one run; `result`: lnt_moved
    OP_ADMIN = 16             # private to the engine (snapshot, clone, delete ...)
    OP_ORDERED = 17           # likewise: a region that the engine moved by itself is done (core/ops/order.pyx)

cdef enum lnt_op_flag:
    OPF_FUA = 1               # WRITE/UNMAP/COMPARE_WRITE: durable when done; READ: no meaning
    OPF_NOUNMAP = 2           # UNMAP: write zeros but keep the blocks allocated where they are
    OPF_BACKGROUND = 4        # nobody waits for it: who looks whether initiators are there does not see it
    OPF_ATOMIC = 8            # WRITE, private to the engine: nothing in place, all pieces enter the map at once
    OPF_PLACED = 16           # likewise: what is mapped goes to its places in the run at block `result`; 0: a free one, told

cdef enum lnt_moved:          # `result` of OP_MOVE
    MOVED_NOT = 0             # it lies well, or is not worth it
    MOVED = 1
    MOVED_NOWHERE = 2         # it would, but there is no run, or too little space

cdef enum lnt_status:      # lnt_op.status; also the table behind core.errors
    ST_OK = 0
    ST_IO_READ = 1            # device failed a read             -> MEDIUM ERROR 11h/00h
    ST_IO_WRITE = 2           # device failed a write or a sync  -> MEDIUM ERROR 0Ch/00h
    ST_NO_SPACE = 3           # pool (or quota) is full          -> DATA PROTECT 27h/07h
    ST_READ_ONLY = 4          # pool went read-only              -> DATA PROTECT 27h/00h
    ST_PROTECTED = 5          # object is a snapshot             -> DATA PROTECT 27h/00h
    ST_RANGE = 6              # outside the object               -> ILLEGAL REQUEST 21h/00h
    ST_GONE = 7               # object deleted                   -> ILLEGAL REQUEST 25h/00h
    ST_MISCOMPARE = 8         # op.result = byte offset of the first difference -> MISCOMPARE 1Dh/00h
    ST_CHECKSUM = 9           # data or metadata fails its checksum -> MEDIUM ERROR 11h/00h
    ST_ABORTED = 10
    ST_INVALID = 11           # malformed request (admin: bad argument)
    ST_EXISTS = 12
    ST_NOT_FOUND = 13
    ST_BUSY = 14
    ST_LIMIT = 15             # a stated limit of the pool is reached
    ST_CLOSED = 16            # pool is closing
    ST_MEMORY = 17            # there is no memory for it now    -> status BUSY

cdef struct lnt_io:
    # One device request. Caller-owned, untouched by anyone else until done.
    uint8_t kind
    uint8_t flags
    int32_t result            # 0 or -errno; a short transfer never surfaces: the device retries or fails it
    uint64_t offset           # bytes from the start of the pool
    uint64_t length           # bytes
    uint64_t done_bytes       # the device's own: how far a transfer has come
    void *buf                 # READ: destination, WRITE: source; otherwise NULL
    iovec *vector             # READ: not NULL: destinations instead, `length` in all; the device may change those it has filled
    uint32_t parts            # of the vector
    void *unwanted            # parts that begin here are thrown away: who copies may leave them out
    uint32_t parts_done       # the device's own: those that are filled
    void (*done)(lnt_io *) noexcept nogil       # called on the device's thread, engine lock HELD
    void *owner
    lnt_io *next              # free for whoever holds the request
    uint64_t took_us          # DISCARD: how long the medium was at it; 0: the device does not say

cdef struct lnt_dev:
    # How one thread performs I/O. Filled by the reactor (io_uring), or by the queue device (tools, tests).
    # submit: called with the engine lock held, on the device's own thread only. Returns 0 = queued: io.done(io) follows
    # later, never from inside submit. Returns 1 = finished inline: io.result is set and io.done will not be called.
    int (*submit)(lnt_dev *, lnt_io *) noexcept nogil
    # wake: any thread, lock held: make the owner call lnt_dev_run soon (must not block).
    void (*wake)(lnt_dev *) noexcept nogil
    void *owner
    uint32_t gap_bytes        # a read of so many that nobody wants costs less than one more request; 0: no read has a vector
    uint8_t cached            # how well reads are found in a page cache lately, 0..16: what is found there costs no request
    # --- engine private below ---
    lnt_op *ready_head
    lnt_op *ready_tail
    lnt_op *done_head
    lnt_op *done_tail
    lnt_op *later             # ready in the next turn, so that the lock is free between two slices of long work
    lnt_dev *next
    uint32_t index

cdef struct lnt_obj:
    # The public head of a volume, snapshot or clone. The address is stable while a handle is open. Read without the lock.
    uint64_t id
    uint64_t size_bytes
    uint32_t block_bytes      # logical block: 512 or 4096
    uint8_t read_only         # snapshot
    uint8_t gone              # deleted: every op fails with ST_GONE
    uint16_t pad0
    uint32_t handles
    uint32_t pad1

cdef struct lnt_op:
    # One block operation. Caller-owned and zeroed before its fields are set; untouched until done.
    uint8_t kind
    uint8_t flags
    uint8_t status            # lnt_status when done
    uint8_t state             # engine private
    uint32_t pad0
    uint64_t offset           # bytes from the start of the object, multiple of its block_bytes
    uint64_t length           # bytes, multiple of its block_bytes
    uint64_t result
    uint8_t *buf              # one contiguous buffer: READ destination, WRITE source; at least 4096-aligned for O_DIRECT
    lnt_obj *obj
    lnt_dev *dev              # the device (thread) that runs it and gets its completion
    void (*done)(lnt_op *) noexcept nogil   # called by lnt_dev_reap on the device's thread, lock NOT held
    void *owner
    lnt_op *next
    # --- engine private below ---
    uint64_t priv[24]
