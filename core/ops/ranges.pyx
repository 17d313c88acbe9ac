"""Range locks: the line that every op on an object's data stands in, and the only place where one waits for another's range
(docs/concurrency.md, "Range locks").

COMPARE AND WRITE and WRITE ATOMIC want a range for themselves. What works in slices, one a turn, shares its range with everybody
but those. An op waits for those before it in the line only, and one that has been let in waits for nobody.
"""
from core.base.layout cimport L_BLOCK_BYTES
from core.base.mutations cimport M_NO_RANGE_LOCK, M_SLICES_UNSEEN
from core.base.object cimport lnt_ranges
from core.base.operation cimport ADMIN_DERIVE, ADMIN_PUBLISH, ADMIN_RESIZE, ADMIN_REVERT, ADMIN_SHARE, lnt_sharing
from core.base.schedule cimport op_ready
from libc.stdint cimport uint32_t


cdef inline uint64_t EVERYTHING() noexcept nogil:
    return <uint64_t>1 << 62      # bytes: behind the end of an object of any size


cdef inline lnt_ranges *list_of(lnt_range *place) noexcept nogil:
    return &place.obj.alone if place.alone else &place.obj.beside


cdef inline int in_the_way(lnt_range *other, lnt_range *place) noexcept nogil:
    return other.number < place.number and other.start_bytes < place.end_bytes and place.start_bytes < other.end_bytes


cdef int blocked(lnt_range *place) noexcept nogil:
    """1: somebody who came before holds, or waits for, some of the range, and one of the two wants it alone."""
    cdef lnt_range *other = place.obj.alone.first
    while other != NULL:
        if in_the_way(other, place):
            return 1
        other = other.next
    other = place.obj.beside.first if place.alone else NULL
    while other != NULL:
        if in_the_way(other, place):
            return 1
        other = other.next
    return 0


cdef void append(lnt_range *place) noexcept nogil:
    cdef lnt_ranges *line = list_of(place)
    place.next = NULL
    place.prev = line.last
    if line.last != NULL:
        line.last.next = place
    else:
        line.first = place
    line.last = place


cdef void range_stand(lnt_pool *p, lnt_range *place, lnt_object *o, lnt_op *op, uint64_t start_bytes, uint64_t end_bytes,
                      uint8_t alone) noexcept nogil:
    """Take a place at the end of the line for whole blocks. An op that needs several takes them all at one instant."""
    place.start_bytes = start_bytes & ~<uint64_t>(L_BLOCK_BYTES - 1)
    place.end_bytes = (end_bytes + L_BLOCK_BYTES - 1) & ~<uint64_t>(L_BLOCK_BYTES - 1)
    place.obj = o
    place.op = op
    place.alone = alone
    place.stands = 1
    place.waits = 0
    p.arrivals += 1
    place.number = p.arrivals
    if alone or not p.mutations & M_SLICES_UNSEEN:
        append(place)
    else:
        place.stands = 0


cdef void range_keep(lnt_pool *p, lnt_range *place, lnt_object *o, lnt_op *op) noexcept nogil:
    """An op that was let in leaves its epoch before its end: it stands before everybody who relied on that epoch."""
    if not place.stands:
        range_stand(p, place, o, op, op.offset, op.offset + op.length, 0)
        place.number = 0


cdef int range_waits(lnt_pool *p, lnt_range *place) noexcept nogil:
    """1: the op runs again when those before it have left; it asks once more then."""
    if not place.stands or p.mutations & M_NO_RANGE_LOCK:
        return 0
    place.waits = <uint8_t>blocked(place)
    return place.waits


cdef int range_let_in(lnt_pool *p, lnt_range *place, lnt_object *o, lnt_op *op) noexcept nogil:
    """What is under way within an epoch stands in line only where it must wait. 1: it waits."""
    cdef lnt_range *other
    if not place.stands:
        other = o.alone.first
        while other != NULL and not (op.offset < other.end_bytes and other.start_bytes < op.offset + op.length):
            other = other.next
        if other == NULL or p.mutations & M_NO_RANGE_LOCK:
            return 0
        range_stand(p, place, o, op, op.offset, op.offset + op.length, 0)
    return range_waits(p, place)


cdef void wake(lnt_pool *p, lnt_range *other, lnt_range *left) noexcept nogil:
    """Those who may have waited for `left` and wait for nobody else run again."""
    while other != NULL:
        if other.waits and in_the_way(left, other) and not blocked(other):
            other.waits = 0
            op_ready(p, other.op)
        other = other.next


cdef void range_leave(lnt_pool *p, lnt_range *place) noexcept nogil:
    cdef lnt_ranges *line
    if not place.stands:
        return
    line = list_of(place)
    if place.prev != NULL:
        place.prev.next = place.next
    else:
        line.first = place.next
    if place.next != NULL:
        place.next.prev = place.prev
    else:
        line.last = place.prev
    place.stands = 0
    wake(p, place.obj.alone.first, place)
    if place.alone:
        wake(p, place.obj.beside.first, place)


# -- operations on objects ---------------------------------------------------------------------------------------------


cdef inline uint32_t place_count(lnt_admin *a) noexcept nogil:
    if a.kind == ADMIN_DERIVE or a.kind == ADMIN_PUBLISH:
        return a.n_sources
    return 2 if a.kind == ADMIN_SHARE else 1 if a.kind == ADMIN_REVERT or a.kind == ADMIN_RESIZE else 0


cdef void places_take(lnt_pool *p, lnt_admin *a) noexcept nogil:
    """Stand in line for what the operation reads as one or changes: all of an object, the blocks shared, what a resize moves."""
    cdef uint32_t i
    cdef lnt_sharing *s = &a.sharing
    if a.kind == ADMIN_DERIVE or a.kind == ADMIN_PUBLISH:
        for i in range(a.n_sources):
            range_stand(p, &a.places[i], a.sources[i], &a.op, 0, EVERYTHING(), 0)
    elif a.kind == ADMIN_REVERT:
        range_stand(p, &a.places[0], a.obj, &a.op, 0, EVERYTHING(), 0)
    elif a.kind == ADMIN_RESIZE:
        range_stand(p, &a.places[0], a.obj, &a.op, min(a.resize.size_bytes, a.obj.pub.size_bytes), EVERYTHING(), 0)
    elif a.kind == ADMIN_SHARE:
        range_stand(p, &a.places[0], a.obj, &a.op, s.block * L_BLOCK_BYTES, (s.block + s.left_blocks) * L_BLOCK_BYTES, 0)
        range_stand(p, &a.places[1], a.other, &a.op, s.source_block * L_BLOCK_BYTES,
                    (s.source_block + s.left_blocks) * L_BLOCK_BYTES, 0)


cdef int places_wait(lnt_pool *p, lnt_admin *a) noexcept nogil:
    """1: somebody has a range for himself that this operation needs."""
    cdef uint32_t i
    if not a.stands:
        a.stands = 1
        places_take(p, a)
    for i in range(place_count(a)):
        if range_waits(p, &a.places[i]):
            return 1
    return 0


cdef void places_leave(lnt_pool *p, lnt_admin *a) noexcept nogil:
    cdef uint32_t i
    for i in range(place_count(a)):
        range_leave(p, &a.places[i])
