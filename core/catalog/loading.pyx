"""A slot becomes an object here, with its checks, and nowhere else; the catalog when a pool is opened."""
from core.errors import damaged

from core.base.entries cimport E_NODE, E_REF, entry_span
from core.base.layout cimport (
    L_BLOCK_BYTES, L_NAME_BYTES, L_NODE_ENTRIES, L_PROPS_BYTES, L_SLOTS_PER_PAGE, L_SLOT_BYTES, OB_BLOCK_BYTES, OB_FLAGS,
    OB_ID, OB_KIND, OB_LEVEL, OB_MAPPED_BLOCKS, OB_NAME_BYTES, OB_ORIGIN_BYTES, OB_PHYSICAL_EXPONENT, OB_PROPS_BYTES,
    OB_RESERVE_BYTES, OB_ROOT, OB_SIZE_BYTES, OK_SNAPSHOT, PK_CATALOG, PK_NODE, SK_FREE, SK_KV, SK_OBJECT,
)
from core.base.memory cimport mem_zeroed
from core.base.native cimport lnt_get_le32, lnt_get_le64
from core.base.page cimport lnt_page
from core.catalog.slots cimport object_known, slot_keep, slots_room
from core.objects cimport object_dirty, object_find, object_link
from core.pages.cache cimport cache_get, cache_pin
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy, memset

cdef enum:
    MORE_SLOTS = 1024             # than there are


cdef lnt_object *object_from(const uint8_t *slot) except NULL:
    """A new object from its slot bytes, that nobody knows of yet; PoolError when they cannot be."""
    cdef lnt_object *o
    if (slot[OB_NAME_BYTES] == 0 or slot[OB_NAME_BYTES] > L_NAME_BYTES and (slot[OB_KIND] != OK_SNAPSHOT or slot[OB_ORIGIN_BYTES])
            or slot[OB_ORIGIN_BYTES] > L_NAME_BYTES or slot[OB_PROPS_BYTES] > L_PROPS_BYTES
            or slot[OB_KIND] < 1 or slot[OB_KIND] > 3 or slot[OB_LEVEL] > 4 or slot[OB_LEVEL] < 1
            or lnt_get_le64(slot + OB_SIZE_BYTES) % L_BLOCK_BYTES or lnt_get_le32(slot + OB_BLOCK_BYTES) not in (512, 4096)
            or slot[OB_PHYSICAL_EXPONENT] > 3):
        raise damaged("a catalog entry is impossible")
    o = <lnt_object *>mem_zeroed(sizeof(lnt_object))
    if o == NULL:
        raise MemoryError
    memcpy(o.slot_image, slot, L_SLOT_BYTES)
    o.pub.id = lnt_get_le64(slot + OB_ID)
    o.pub.size_bytes = lnt_get_le64(slot + OB_SIZE_BYTES)
    o.pub.block_bytes = lnt_get_le32(slot + OB_BLOCK_BYTES)
    o.pub.read_only = slot[OB_KIND] == OK_SNAPSHOT
    o.kind = slot[OB_KIND]
    o.flags = slot[OB_FLAGS]
    o.level = slot[OB_LEVEL]
    o.root = lnt_get_le64(slot + OB_ROOT)
    o.mapped_blocks = lnt_get_le64(slot + OB_MAPPED_BLOCKS)
    return o


cdef int page_load(lnt_pool *p, lnt_page *f, uint64_t page, list keys) except -1:
    cdef uint32_t i, slot
    cdef const uint8_t *s
    cdef lnt_object *o
    for i in range(L_SLOTS_PER_PAGE):
        slot = <uint32_t>(page * L_SLOTS_PER_PAGE + i)
        s = f.data + i * L_SLOT_BYTES
        if slot >= p.catalog_slots or s[0] == SK_FREE:
            continue
        slot_keep(p, slot, s[0])
        if s[0] == SK_KV:
            keys.append((slot, (<const char *>s)[:L_SLOT_BYTES]))
        elif s[0] == SK_OBJECT:
            o = object_from(s)
            object_known(p, o.pub.id)
            o.slot = slot
            if object_find(p, o.pub.id) != NULL:
                raise damaged("two catalog entries have one id")
            object_link(p, o)
            object_dirty_reserve(p, o)
        else:
            raise damaged("a catalog slot is of no known kind")
    return 0


cdef void object_dirty_reserve(lnt_pool *p, lnt_object *o) noexcept:
    if lnt_get_le64(o.slot_image + OB_RESERVE_BYTES):
        object_dirty(p, o)        # counts what its reservation holds back


cdef int catalog_walk(lnt_pool *p, uint64_t id, int level, uint64_t first, list keys) except -1:
    cdef int rc = 0, i
    cdef lnt_page *f = cache_get(p, NULL, id, PK_NODE, <uint8_t>level, &rc)
    cdef lnt_page *g
    cdef uint64_t[L_NODE_ENTRIES] v
    if f == NULL:
        raise damaged(f"catalog node at block {id} cannot be read")
    cache_pin(p, f)
    memcpy(v, f.data, sizeof(v))
    for i in range(L_NODE_ENTRIES):
        if not v[i] & E_NODE():
            continue
        if level:
            catalog_walk(p, v[i] & E_REF(), level - 1, first + i * entry_span(level), keys)
            continue
        g = cache_get(p, NULL, v[i] & E_REF(), PK_CATALOG, 0, &rc)
        if g == NULL:
            raise damaged(f"catalog page at block {v[i] & E_REF()} cannot be read")
        cache_pin(p, g)
        page_load(p, g, first + i, keys)
    return 0


cdef int catalog_load(lnt_pool *p, list keys) except -1:
    """Read every slot: objects into memory, slots of keys as (slot, bytes) into the list."""
    if not slots_room(p, p.catalog_slots + MORE_SLOTS):
        raise MemoryError
    memset(p.slot_kind, SK_FREE, p.slot_capacity)
    if p.catalog.root:
        catalog_walk(p, p.catalog.root, p.catalog.level, 0, keys)
    return 0
