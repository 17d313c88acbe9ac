"""The changes of objects themselves, as operations make them and replay repeats them.

Each is applied in one step, beside its journal record (I3).
"""
from core.base.mutations cimport M_NO_SETTLE
from core.catalog.slots cimport slot_free
from core.objects cimport object_dirty, object_link, object_unlink
from core.space.counts cimport node_ref
from core.space.dropped cimport drop_node


cdef int become(lnt_pool *p, lnt_object *o, lnt_object *source) noexcept nogil:
    """The object has the source's blocks from now on, and lets go of its own. The source's root was touched. 0 or a status."""
    cdef int rc = node_ref(p, source.root, 1) if source.root else 0
    if rc:
        return rc
    if o.root:
        drop_node(p, o.root, o.level, 1)
    o.root = source.root
    o.level = source.level
    o.mapped_blocks = source.mapped_blocks
    o.pub.size_bytes = source.pub.size_bytes
    object_dirty(p, o)
    return 0


cdef int derive_apply(lnt_pool *p, lnt_object *src, lnt_object *new) noexcept nogil:
    """The new object starts as what src is now. Its root's count was touched."""
    cdef int rc = become(p, new, src)
    if rc:
        return rc
    src.settle_epoch = p.epoch + 2 if not p.mutations & M_NO_SETTLE else 0
    new.settle_epoch = src.settle_epoch
    object_dirty(p, src)
    object_link(p, new)
    return 0


cdef int delete_apply(lnt_pool *p, lnt_object *o) noexcept nogil:
    if o.root:
        drop_node(p, o.root, o.level, 1)
    o.root = 0
    o.pub.gone = 1
    o.mapped_blocks = 0
    object_dirty(p, o)
    object_unlink(p, o)
    slot_free(p, o.slot)
    return 0


cdef int revert_apply(lnt_pool *p, lnt_object *vol, lnt_object *snap) noexcept nogil:
    """The volume becomes what the snapshot is. The snapshot's root was touched."""
    return become(p, vol, snap)
