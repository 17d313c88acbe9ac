"""The memory of an operation that Python starts: made, handed to the engine, freed; and what its end means."""
from typing import NamedTuple

from core.errors import PoolError

from core.base.memory cimport mem_zeroed
from core.base.native cimport pthread_mutex_lock, pthread_mutex_unlock
from core.base.operation cimport ADMIN_CREATE, ADMIN_DATA
from core.base.pool cimport lnt_op_state
from core.base.schedule cimport op_ready
from core.base.types cimport OP_ADMIN, lnt_obj
from core.ops.admin cimport admin_submit
from core.pool.state cimport pool_done
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free


class Completion(NamedTuple):
    token: int
    code: str
    value: object


cdef object out_of_memory():
    return PoolError("no_memory", "there is no memory for it now")


cdef void *memory_for(size_t size_bytes) except NULL:
    """Zeroed memory for an operation or its answer. PoolError: no_memory."""
    cdef void *at = mem_zeroed(size_bytes)
    if at == NULL:
        raise out_of_memory()
    return at


cdef lnt_admin *admin_new(PoolState pool, uint8_t kind) except NULL:
    cdef lnt_admin *a = <lnt_admin *>memory_for(sizeof(lnt_admin))
    pool.unsubmitted = <size_t>a
    a.token = pool.next_token
    pool.next_token += 1
    a.kind = kind
    a.places = a.own
    a.op.kind = OP_ADMIN
    a.op.dev = pool.p.background_device
    a.op.done = pool_done
    a.op.owner = pool.mail
    return a


cdef void admin_free(PoolState pool, lnt_admin *a):
    cdef uint32_t i
    if pool.unsubmitted == <size_t>a:
        pool.unsubmitted = 0
    for i in range(a.n_sources):
        if a.sources[i] != NULL:
            pool.close_handle(<lnt_obj *>a.sources[i])
    if a.obj != NULL and a.kind != ADMIN_CREATE:
        pool.close_handle(<lnt_obj *>a.obj)
    if a.other != NULL:
        pool.close_handle(<lnt_obj *>a.other)
    free(a.sources)
    if a.places != a.own:
        free(a.places)
    free(a.made)
    free(a.change.slot)
    free(a.keys.slots)
    free(a.keys.images)
    free(a.keys.records)
    free(a.publications)
    free(a.sole.blocks)
    free(a.scrub.page)
    free(a.rows)
    free(a.data)
    free(a)


cdef lnt_object *handle(PoolState pool, object_id) except NULL:
    cdef lnt_obj *o = pool.open_handle(object_id)
    if o == NULL:
        raise PoolError("not_found", f"there is no object {object_id}")
    return <lnt_object *>o


cdef lnt_admin *admin_on(PoolState pool, uint8_t kind, object_id, other_id=None) except NULL:
    """An operation on an object, and perhaps with another: both stay open until it is freed. PoolError: not_found."""
    cdef lnt_admin *a = admin_new(pool, kind)
    try:
        a.obj = handle(pool, object_id)
        if other_id is not None:
            a.other = handle(pool, other_id)
    except PoolError:
        admin_free(pool, a)
        raise
    return a


cdef object submit(PoolState pool, lnt_admin *a, Outcome outcome):
    """Queue the operation; `outcome` is what its end means."""
    cdef uint64_t token = a.token
    pool.unsubmitted = 0
    pool.ops[token] = outcome
    pthread_mutex_lock(&pool.p.lock)
    pool.p.current_device = NULL
    a.op.dev = pool.p.background_device
    if pool.side != NULL and token & 1:
        a.op.dev = &pool.side.dev     # admin work goes home by itself
    if a.kind != ADMIN_DATA:
        a.op.obj = <lnt_obj *>a.obj   # whom damage met on the way is said to be of
        admin_submit(pool.p, a)
    else:
        (<lnt_op_state *>a.op.priv).pool = pool.p
        op_ready(pool.p, &a.op)
    pthread_mutex_unlock(&pool.p.lock)
    return token


cdef class Outcome:
    """What the end of an operation means to Python: others know more."""

    cdef object value(self, PoolState pool, lnt_admin *a, str code):
        """The value of its Completion; names and the like are settled here, whether it succeeded or not."""
        return None


cdef class Untold(Outcome):
    """Of the pool's own operations: nobody is told."""
