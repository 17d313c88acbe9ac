# Who waits for a checkpoint, and whether one is wanted before its time.
#
# Lives here and nowhere else: lnt_pool.checkpoint_wait. Every room may want a checkpoint; core/log/checkpoint.pyx makes it.
from core.base.pool cimport lnt_pool
from core.base.types cimport lnt_op

cdef inline void checkpoint_want(lnt_pool *p) noexcept nogil:
    p.checkpoint_wait.wanted = 1

cdef inline void checkpoint_wait_next(lnt_pool *p, lnt_op *op) noexcept nogil:
    """The op runs again when the checkpoint that begins next is durable."""
    p.checkpoint_wait.wanted = 1
    op.next = p.checkpoint_wait.next_done
    p.checkpoint_wait.next_done = op

cdef inline void checkpoint_wait_running(lnt_pool *p, lnt_op *op) noexcept nogil:
    """The op runs again when the checkpoint that is under way has ended."""
    op.next = p.checkpoint_wait.done
    p.checkpoint_wait.done = op

cdef inline void checkpoint_wait_room(lnt_pool *p, lnt_op *op) noexcept nogil:
    """The op runs again when a checkpoint has made room in the cache and in the journal."""
    p.checkpoint_wait.wanted = 1
    op.next = p.checkpoint_wait.room
    p.checkpoint_wait.room = op

cdef inline void checkpoint_begun(lnt_pool *p) noexcept nogil:
    """The instant is fixed: who wanted the next checkpoint waits for this one."""
    p.checkpoint_wait.done = p.checkpoint_wait.next_done
    p.checkpoint_wait.next_done = NULL
    p.checkpoint_wait.wanted = 0
