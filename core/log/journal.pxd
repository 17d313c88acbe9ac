# The journal: records in frames, group commit, and the only place that syncs while a pool is open (docs/durability.md).
from core.base.crc32c cimport lnt_crc32c
from core.base.layout cimport FR_CRC, L_BLOCK_BYTES, L_FIRST_VERSION
from core.base.pool cimport lnt_pool
from core.base.types cimport lnt_op
from libc.stdint cimport uint32_t, uint64_t, uint8_t

cdef int journal_init(lnt_pool *p) noexcept nogil
cdef void journal_free(lnt_pool *p) noexcept nogil
cdef void frame_close(lnt_pool *p, int force) noexcept nogil
cdef void journal_fit(lnt_pool *p, uint32_t length) noexcept nogil
cdef int journal_reserve(lnt_pool *p, uint32_t length) noexcept nogil
cdef uint8_t *record_new(lnt_pool *p, uint8_t type, uint32_t length) noexcept nogil
cdef void wait_soft(lnt_pool *p, lnt_op *op) noexcept nogil
cdef void wait_hard(lnt_pool *p, lnt_op *op) noexcept nogil
cdef uint64_t next_sync(lnt_pool *p) noexcept nogil
cdef int frames_make(lnt_pool *p) noexcept nogil
cdef int commit_turn(lnt_pool *p) noexcept nogil
cdef void records_put(lnt_pool *p, const uint8_t *records, uint32_t length, uint32_t count) noexcept nogil
cdef uint64_t checkpoint_sync(lnt_pool *p) noexcept nogil
cdef void journal_cut(lnt_pool *p, uint64_t seq, uint32_t position) noexcept nogil
cdef int background_commit(lnt_pool *p, bint press) noexcept nogil

cdef enum:
    SPARE_FRAMES = 4              # the open one, a pad, the next, a marker
    # Blocks of the ring that must be left (journal_room), each more careful than the next: who is last has what it needs.
    ROOM_LONGEST = 144            # an op begins: the longest frame, a pad before it, and some
    ROOM_SMALL_RING = 80          # the same in a ring of less than 512 blocks; what nobody waits for leaves that much, too
    ROOM_COMMIT = 16              # an op that has begun enters its blocks into the map: its records and a pad
    ROOM_MARKER = 8               # a frame without records that says what is hard

cdef inline uint32_t frame_crc(const uint8_t *frame, uint32_t length) noexcept nogil:
    """What its checksum field shall say: of all behind that, up to the end of its records."""
    return lnt_crc32c(0, frame + FR_CRC + 4, length - FR_CRC - 4)

cdef inline int frames_ready(lnt_pool *p) noexcept nogil:
    """1 when there is memory for every frame that one step of an op may begin: asked before the step changes anything."""
    return p.journal.spares >= SPARE_FRAMES or frames_make(p)

cdef inline uint32_t ring_room(lnt_pool *p) noexcept nogil:
    """Blocks of the ring that may still be written."""
    cdef uint32_t free = p.journal.tail - p.journal.head - 1
    return free if p.journal.head < p.journal.tail else free + p.journal.blocks

cdef inline uint32_t journal_room(lnt_pool *p) noexcept nogil:
    """Blocks of the ring left when the open frame has been written, behind a pad as long as itself at worst."""
    cdef uint32_t room = ring_room(p)
    cdef uint32_t opened = (p.journal.open.length + L_BLOCK_BYTES - 1) // L_BLOCK_BYTES * 2 if p.journal.open != NULL else 0
    return room - opened if room > opened else 0

cdef inline void journal_number(lnt_pool *p, uint64_t seq) noexcept nogil:
    """Replay: the frame whose records are applied now."""
    p.journal.next_seq = seq

cdef inline void journal_continue(lnt_pool *p, uint32_t position, uint64_t next_seq) noexcept nogil:
    """A pool is opened: the next frame gets this place in the ring, and this number. Nothing before it is known to be hard."""
    p.journal.head = p.journal.tail = position
    p.journal.next_seq = next_seq
    p.journal.closed_seq = p.journal.written_seq = p.journal.seal_seq = next_seq - 1
    p.journal.hard_seq = p.journal.synced_seq = p.journal.marker_seq = p.journal.data_synced_seq = 0

cdef inline void frames_share(lnt_pool *p, uint32_t version) noexcept nogil:
    """The superblock on the medium says which version's rules hold: frames may share a block from version 2 on."""
    p.journal.shares = version > L_FIRST_VERSION

cdef inline void block_end(lnt_pool *p) noexcept nogil:
    """The next frame begins a block of its own."""
    p.journal.shared_bytes = 0

cdef inline void journal_data_written(lnt_pool *p) noexcept nogil:
    """A write of data has ended: the next sync proves it."""
    p.journal.data_writes += 1

cdef inline void background_due(lnt_pool *p) noexcept nogil:
    """What changed is to be hard in the next turn of the background."""
    p.journal.background_due_us = 1
