"""Operations on objects as Python starts them: arguments checked, names and memory taken, names given when it is over."""
from core.errors import PoolError
from core.pool.info import masked_serial, object_info, object_slot

from core.base.layout cimport L_BLOCK_BYTES, L_FRAME_BLOCKS, L_FRAME_HEADER_BYTES, L_SLOT_BYTES, OF_TAIL, SK_OBJECT
from core.base.native cimport pthread_mutex_lock, pthread_mutex_unlock
from core.base.object cimport lnt_object, lnt_range
from core.base.operation cimport (
    ADMIN_CREATE, ADMIN_DELETE, ADMIN_DERIVE, ADMIN_RESIZE, ADMIN_REVERT, ADMIN_SET, SET_NAME, SET_PHYSICAL, SET_PROPS, SET_QUOTA,
    SET_RESERVE,
)
from core.catalog.loading cimport object_from
from core.catalog.slots cimport NO_SLOT, object_number, slot_alloc
from core.pool.figures cimport pool_figures
from core.pool.keys cimport keys_attach, keys_with, kv_records
from core.pool.submission cimport Untold, admin_free, admin_new, admin_on, handle, memory_for, out_of_memory, submit
from libc.stdint cimport uint32_t, uint64_t, uint8_t
from libc.stdlib cimport free
from libc.string cimport memcpy


FRAME_RECORDS_BYTES = L_FRAME_BLOCKS * L_BLOCK_BYTES - L_FRAME_HEADER_BYTES


SET_FIELDS = {"name": SET_NAME, "props": SET_PROPS, "quota_bytes": SET_QUOTA, "reserve_bytes": SET_RESERVE,
              "physical_exponent": SET_PHYSICAL}


cdef class Made(Outcome):
    """New objects have their names."""
    cdef list made            # (name, id)
    cdef object answer

    def __init__(self, list made, answer):
        self.made, self.answer = made, answer

    cdef object value(self, PoolState pool, lnt_admin *a, str code):
        for name, number in self.made:
            pool.claimed.discard(name)
            if code == "ok":
                pool.ids[name] = number
        return self.answer


cdef class Deleted(Outcome):
    """The name of an object is free."""
    cdef str name
    cdef object number

    def __init__(self, str name, number):
        self.name, self.number = name, number

    cdef object value(self, PoolState pool, lnt_admin *a, str code):
        if code == "ok" and pool.ids.get(self.name) == self.number:
            del pool.ids[self.name]
        return None


cdef class Renamed(Outcome):
    cdef str before
    cdef str after
    cdef object number

    def __init__(self, str before, str after, number):
        self.before, self.after, self.number = before, after, number

    cdef object value(self, PoolState pool, lnt_admin *a, str code):
        pool.claimed -= {self.after, self.number}
        if code == "ok" and self.before != self.after:
            pool.ids.pop(self.before, None)
            pool.ids[self.after] = self.number
        return None


cdef lnt_object *object_new(bytes slot) except NULL:
    try:
        return object_from(slot)
    except MemoryError:
        raise out_of_memory() from None


cdef object claim(PoolState pool, str name):
    if name in pool.ids or name in pool.claimed:
        raise PoolError("exists", f"{name} exists already")
    pool.claimed.add(name)


cdef bytes slot_of(PoolState pool, str kind, str name, dict args):
    """The slot of a new object, its id and its name taken."""
    cdef uint64_t number
    claim(pool, name)
    try:
        pthread_mutex_lock(&pool.p.lock)
        number = object_number(pool.p)
        pthread_mutex_unlock(&pool.p.lock)
        return object_slot(number, kind, name, **args)
    except ValueError as e:
        pool.claimed.discard(name)
        raise PoolError("invalid", str(e)) from e


cdef int new_objects(PoolState pool, lnt_admin *a, list slots) except -1:
    """Attach the new objects of an operation, each with a slot in the catalog."""
    cdef uint32_t i
    cdef lnt_object *o
    a.made = <lnt_object **>memory_for((len(slots) + 1) * sizeof(lnt_object *))
    for i in range(len(slots)):
        o = object_new(slots[i])
        pthread_mutex_lock(&pool.p.lock)
        o.slot = slot_alloc(pool.p, SK_OBJECT)
        pthread_mutex_unlock(&pool.p.lock)
        if o.slot == NO_SLOT:
            free(o)
            raise out_of_memory()
        a.made[i] = o
        a.n_made += 1
    return 0


def physical_exponent(physical_block_bytes, block_bytes):
    """How many times a logical block doubles to make a physical one; PoolError invalid when it does not."""
    if physical_block_bytes not in (512, 4096) or physical_block_bytes < block_bytes:
        raise PoolError("invalid", "a physical block has 512 or 4096 bytes, not fewer than a logical one")
    return (physical_block_bytes // block_bytes).bit_length() - 1


cdef int reservable(PoolState pool, quota_bytes, reserve_bytes, more_bytes) except -1:
    """PoolError unless the numbers make sense and so many more bytes can be kept free for one object."""
    if not (0 <= quota_bytes <= 1 << 60 and 0 <= reserve_bytes <= 1 << 60):
        raise PoolError("invalid", "a quota or reservation is not negative, and at most 1 EiB")
    if 0 < quota_bytes < reserve_bytes:
        raise PoolError("invalid", "a reservation beyond the quota could never be used")
    figures = pool_figures(pool.open_pool())
    if more_bytes > 0 and more_bytes > figures["available_bytes"] - figures["reserved_unused_bytes"]:
        raise PoolError("no_space", "the pool cannot hold that reservation")
    return 0


def start_create(PoolState pool, *, str name, size_bytes, block_bytes=512, checksum=False, quota_bytes=0, reserve_bytes=0,
                 props=b"", serial="", physical_block_bytes=0):
    cdef lnt_admin *a
    if size_bytes <= 0 or size_bytes % L_BLOCK_BYTES or size_bytes > 1 << 56:
        raise PoolError("invalid", "a size is a positive multiple of 4096 bytes")
    if block_bytes not in (512, 4096):
        raise PoolError("invalid", "a logical block has 512 or 4096 bytes")
    reservable(pool, quota_bytes, reserve_bytes, reserve_bytes)
    exponent = physical_exponent(physical_block_bytes or block_bytes, block_bytes)
    slot = slot_of(pool, "volume", name, {
        "size_bytes": size_bytes, "block_bytes": block_bytes, "checksum": checksum, "quota_bytes": quota_bytes,
        "reserve_bytes": reserve_bytes, "props": props,
        "serial": masked_serial(serial, pool.serial_mask), "physical_exponent": exponent})
    a = admin_new(pool, ADMIN_CREATE)
    new_objects(pool, a, [slot])
    a.obj = a.made[0]
    number = a.obj.pub.id
    return submit(pool, a, Made([(name, number)], number))


cdef int disclaim(PoolState pool, list slots) except -1:
    """Let go of the names of objects that are not made."""
    for slot in slots:
        pool.claimed.discard(object_info(slot).name)
    return 0


cdef list derived_slots(PoolState pool, str kind, list pairs):
    """The slots of what is made of (source, name) pairs, their names taken."""
    slots = []
    try:
        for source_id, name in pairs:
            source = pool.info(source_id)
            if source is None:
                raise PoolError("not_found", "there is no such source")
            slots.append(slot_of(pool, kind, name, {
                "size_bytes": source.size_bytes, "block_bytes": source.block_bytes, "origin": source.name,
                "origin_id": source.id, "checksum": source.checksum, "physical_exponent": source.physical_exponent}))
    except PoolError:
        disclaim(pool, slots)
        raise
    return slots


cdef int keys_beside(PoolState pool, lnt_admin *a, object keys, list slots) except -1:
    """Attach the keys that an operation changes with its new objects: all of it is one frame. PoolError: busy, limit."""
    cdef bytes records
    if keys is None:
        return 0
    changes = keys_with(pool, keys, [object_info(slot).id for slot in slots])
    records = kv_records(changes)
    if len(records) + len(slots) * (L_SLOT_BYTES + 40) > FRAME_RECORDS_BYTES:
        raise PoolError("limit", "so many objects and keys are not made at one instant")
    return keys_attach(pool, a, changes, records)


cdef object derive(PoolState pool, list pairs, str kind, bint single, object keys):
    cdef lnt_admin *a
    cdef uint32_t i
    cdef list slots = []
    if not pairs:
        raise PoolError("not_found", "there is no such source")
    if len(pairs) > 400:
        raise PoolError("limit", "at most 400 objects are derived at one instant")
    a = admin_new(pool, ADMIN_DERIVE)
    try:
        a.sources = <lnt_object **>memory_for(len(pairs) * sizeof(lnt_object *))
        a.n_sources = len(pairs)
        a.places = <lnt_range *>memory_for(len(pairs) * sizeof(lnt_range))
        for i in range(a.n_sources):          # open before names are taken: each may be deleted at any moment
            a.sources[i] = handle(pool, pairs[i][0])
        slots = derived_slots(pool, kind, pairs)
        keys_beside(pool, a, keys, slots)
    except BaseException:
        disclaim(pool, slots)
        admin_free(pool, a)
        raise
    new_objects(pool, a, slots)
    numbers = [a.made[i].pub.id for i in range(a.n_made)]
    made = [(name, number) for (_, name), number in zip(pairs, numbers, strict=True)]
    return submit(pool, a, Made(made, numbers[0] if single else numbers))


def start_snapshot(PoolState pool, *, pairs, keys=None):
    return derive(pool, list(pairs), "snapshot", False, keys)


def start_clone(PoolState pool, *, source_id, str name):
    return derive(pool, [(source_id, name)], "clone", True, None)


def start_delete(PoolState pool, *, object_id):
    cdef lnt_admin *a
    info = pool.info(object_id)
    if info is None:
        raise PoolError("not_found", f"there is no object {object_id}")
    unrenamed(pool, object_id)
    a = admin_on(pool, ADMIN_DELETE, object_id)
    return submit(pool, a, Deleted(info.name, object_id))


def start_revert(PoolState pool, *, volume_id, snapshot_id, str safety_name="", keys=None):
    cdef lnt_admin *a = admin_on(pool, ADMIN_REVERT, volume_id, snapshot_id)
    slots, made = [], []
    try:
        volume, snapshot = pool.info(volume_id), pool.info(snapshot_id)
        if volume is None or snapshot is None:
            raise PoolError("not_found", "there is no such volume or snapshot")
        if volume.kind == "snapshot" or snapshot.kind != "snapshot":
            raise PoolError("invalid", "only a volume or clone is reverted, to a snapshot")
        if snapshot.origin_id != volume.id:
            raise PoolError("invalid", "the snapshot was taken of another volume")
        if volume.block_bytes != snapshot.block_bytes or volume.checksum != snapshot.checksum:
            raise PoolError("invalid", "the snapshot's block size or checksums differ from the volume's")
        if safety_name:
            slots = derived_slots(pool, "snapshot", [(volume_id, safety_name)])
        keys_beside(pool, a, keys, slots)
    except BaseException:
        disclaim(pool, slots)
        admin_free(pool, a)
        raise
    new_objects(pool, a, slots)
    if safety_name:
        made = [(safety_name, a.made[0].pub.id)]
    return submit(pool, a, Made(made, made[0][1] if made else 0))


def start_resize(PoolState pool, *, object_id, size_bytes):
    cdef lnt_admin *a
    info = pool.info(object_id)
    if info is None:
        raise PoolError("not_found", f"there is no object {object_id}")
    if info.kind == "snapshot":
        raise PoolError("protected", "a snapshot cannot be resized")
    if size_bytes <= 0 or size_bytes % L_BLOCK_BYTES or size_bytes > 1 << 56:
        raise PoolError("invalid", "a size is a positive multiple of 4096 bytes")
    a = admin_on(pool, ADMIN_RESIZE, object_id)
    a.resize.size_bytes = size_bytes
    return submit(pool, a, Outcome())


cdef object change(PoolState pool, info, dict args, Outcome outcome):
    """Replace those properties of an object that `args` names, and no other: what is changed at the same time stays changed."""
    cdef lnt_admin *a
    cdef bytes slot
    values = {"origin": info.origin, "origin_id": info.origin_id, "quota_bytes": info.quota_bytes,
              "serial": masked_serial(info.serial, pool.serial_mask),
              "reserve_bytes": info.reserve_bytes, "props": info.props, "created_us": int(info.created_s * 1e6),
              "physical_exponent": info.physical_exponent}
    wanted = {key: value for key, value in args.items() if value is not None}
    mask = sum(bit for field, bit in SET_FIELDS.items() if field in wanted)
    name = wanted.pop("name", info.name)
    values.update(wanted)
    try:
        slot = object_slot(info.id, info.kind, name, **values)
    except ValueError as e:
        raise PoolError("invalid", str(e)) from e
    a = admin_on(pool, ADMIN_SET, info.id)
    a.change.slot = <uint8_t *>memory_for(L_SLOT_BYTES)
    memcpy(a.change.slot, <const char *>slot, L_SLOT_BYTES)
    a.change.fields = mask
    return submit(pool, a, outcome)


cdef int unrenamed(PoolState pool, object object_id) except -1:
    """PoolError while a rename of the object is under way: which name it has is open."""
    if object_id in pool.claimed:
        raise PoolError("busy", "the object is being renamed")
    return 0


def start_rename(PoolState pool, *, object_id, str name):
    info = pool.info(object_id)
    if info is None:
        raise PoolError("not_found", f"there is no object {object_id}")
    unrenamed(pool, object_id)
    if name != info.name:
        claim(pool, name)
    pool.claimed.add(object_id)
    try:
        return change(pool, info, {"name": name}, Renamed(info.name, name, object_id))
    except PoolError:
        pool.claimed -= {name, object_id}
        raise


def start_set(PoolState pool, *, object_id, props=None, quota_bytes=None, reserve_bytes=None, physical_block_bytes=None):
    info = pool.info(object_id)
    if info is None:
        raise PoolError("not_found", f"there is no object {object_id}")
    quota = info.quota_bytes if quota_bytes is None else quota_bytes
    reserve = info.reserve_bytes if reserve_bytes is None else reserve_bytes
    reservable(pool, quota, reserve, max(reserve - info.mapped_bytes, 0) - max(info.reserve_bytes - info.mapped_bytes, 0))
    exponent = None if physical_block_bytes is None else physical_exponent(physical_block_bytes, info.block_bytes)
    return change(pool, info, {"props": props, "quota_bytes": quota_bytes, "reserve_bytes": reserve_bytes,
                               "physical_exponent": exponent}, Outcome())


cdef int shrinks_resume(PoolState pool) except -1:
    """Shrinks that a crash interrupted go on in the background, before any other change of the catalog."""
    cdef lnt_admin *a
    cdef lnt_object *o
    cdef uint64_t i
    numbers = []
    for i in range(pool.p.objects_mask + 1):
        o = pool.p.objects_by_id[i]
        while o != NULL:
            if o.flags & OF_TAIL:
                numbers.append(o.pub.id)
            o = o.hash_next
    for number in numbers:
        a = admin_on(pool, ADMIN_RESIZE, number)
        a.resize.size_bytes = a.obj.pub.size_bytes
        submit(pool, a, Untold())
    return 0
