# Operations as Python starts them: arguments checked, memory made, result turned back. Included by _engine.pyx.
from typing import NamedTuple


FRAME_RECORDS_BYTES = L_FRAME_BLOCKS * L_BLOCK_BYTES - L_FRAME_HEADER_BYTES


class Completion(NamedTuple):
    token: int
    code: str
    value: object


class TrimStep(NamedTuple):
    cursor: object            # where to go on; None: all of the pool was looked at
    found_bytes: int          # free, and the medium may still keep it: it goes back in the background


class ScrubStep(NamedTuple):
    cursor: object            # where to go on; None: this part is over
    pages: int                # read from the medium
    damaged: list             # (offset and length in bytes of what the page speaks of, block of the page)


cdef enum:
    RUNS_MOST = 65536         # of one answer
    RUN_BLOCKS_MOST = 1 << 19   # of one run: 2 GiB
    RUN_CHANGED = 1           # states of runs, as NBD has them: of a comparison ...
    RUN_HOLE = 1              # ... and of what is allocated
    RUN_ZERO = 2

cdef struct lnt_run:          # little-endian, as every machine that Lunette runs on is (docs/export.md)
    uint32_t length_bytes
    uint32_t state


cdef object out_of_memory():
    return PoolError("no_memory", "there is no memory for it now")


cdef void *memory_for(size_t size_bytes) except NULL:
    """Zeroed memory for an operation or its answer. PoolError: no_memory."""
    cdef void *at = mem_zeroed(size_bytes)
    if at == NULL:
        raise out_of_memory()
    return at


cdef lnt_admin *admin_new(Pool pool, uint8_t kind) except NULL:
    cdef lnt_admin *a = <lnt_admin *>memory_for(sizeof(lnt_admin))
    pool.unsubmitted = <size_t>a
    a.token = pool.next_token
    pool.next_token += 1
    a.kind = kind
    a.places = a.own
    a.op.kind = OP_ADMIN
    a.op.dev = pool.p.home
    a.op.done = pool_done
    a.op.owner = pool.mail
    return a


cdef void admin_free(Pool pool, lnt_admin *a):
    cdef uint32_t i
    if pool.unsubmitted == <size_t>a:
        pool.unsubmitted = 0
    for i in range(a.n_sources):
        if a.sources[i] != NULL:
            pool.close_handle(<lnt_obj *>a.sources[i])
    if a.obj != NULL and a.kind != A_CREATE:
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


cdef lnt_object *handle(Pool pool, object_id) except NULL:
    cdef lnt_obj *o = pool.open_handle(object_id)
    if o == NULL:
        raise PoolError("not_found", f"there is no object {object_id}")
    return <lnt_object *>o


cdef lnt_admin *admin_on(Pool pool, uint8_t kind, object_id, other_id=None) except NULL:
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


cdef lnt_object *object_new(bytes slot) except NULL:
    cdef lnt_object *o = <lnt_object *>memory_for(sizeof(lnt_object))
    cdef const uint8_t *b = slot
    memcpy(o.desc, b, L_SLOT_BYTES)
    o.pub.id = lnt_get_le64(b + OB_ID)
    o.pub.size_bytes = lnt_get_le64(b + OB_SIZE_BYTES)
    o.pub.block_bytes = lnt_get_le32(b + OB_BLOCK_BYTES)
    o.kind = b[OB_KIND]
    o.pub.read_only = o.kind == OK_SNAPSHOT
    o.flags = b[OB_FLAGS]
    o.level = b[OB_LEVEL]
    return o


cdef object claim(Pool pool, str name):
    if name in pool.ids or name in pool.claimed:
        raise PoolError("exists", f"{name} exists already")
    pool.claimed.add(name)


cdef bytes slot_of(Pool pool, str kind, str name, dict args):
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


cdef object submit(Pool pool, lnt_admin *a, object finish):
    """Queue the operation; `finish(code, op)` makes its value."""
    cdef uint64_t token = a.token
    pool.unsubmitted = 0
    pool.ops[token] = finish
    pthread_mutex_lock(&pool.p.lock)
    pool.p.cur = NULL
    a.op.dev = pool.p.home
    if pool.side != NULL and token & 1:
        a.op.dev = &pool.side.dev     # admin work goes home by itself
    if a.kind != A_DATA:
        a.op.obj = <lnt_obj *>a.obj   # whom damage met on the way is said to be of
        admin_submit(pool.p, a)
    else:
        (<lnt_op_state *>a.op.priv).pool = pool.p
        op_ready(pool.p, &a.op)
    pthread_mutex_unlock(&pool.p.lock)
    return token


cdef bint run_put(lnt_run *runs, uint32_t *n, uint32_t most, uint64_t blocks, uint32_t state) noexcept nogil:
    """Add blocks of one state, in as many runs as they need. False: no room for all of them."""
    cdef uint64_t part
    while blocks:
        if n[0] == most:
            return False
        part = min(blocks, <uint64_t>RUN_BLOCKS_MOST)
        runs[n[0]].length_bytes = <uint32_t>(part * L_BLOCK_BYTES)
        runs[n[0]].state = state
        n[0] += 1
        blocks -= part
    return True


cdef bytes runs_pack(lnt_admin *a, uint64_t first, uint64_t end):
    """What a walk found from block `first` on, without gaps; what A_DIFF did not look at, up to `end`, is changed."""
    cdef lnt_run *runs = <lnt_run *>memory_for(sizeof(lnt_run) * (a.walk.most_rows or 1))
    cdef uint64_t at = first
    cdef lnt_row *row
    cdef uint32_t n = 0, i
    cdef bint room = True
    for i in range(a.n_rows):
        row = &a.rows[i]
        room = room and run_put(runs, &n, a.walk.most_rows, row.start - at, 0)
        room = room and run_put(runs, &n, a.walk.most_rows, row.length, RUN_CHANGED if a.kind == A_DIFF else
                                0 if row.value else RUN_HOLE | RUN_ZERO)
        at = row.start + row.length
    if a.kind == A_DIFF:
        room = room and run_put(runs, &n, a.walk.most_rows, a.walk.next_block - at, 0)
        if a.walk.next_block >= a.walk.end_block and room and end > a.walk.next_block:
            run_put(runs, &n, a.walk.most_rows, end - a.walk.next_block, RUN_CHANGED)
    value = (<const char *>runs)[:n * sizeof(lnt_run)]
    free(runs)
    return value


cdef object finish(Pool pool, lnt_admin *a):
    """The Completion of a finished operation; frees it."""
    code = STATUS_CODES[a.op.status]
    kind, names, extra = pool.ops.pop(a.token)
    value = None
    if a.token in pool.keys_outcomes:
        kv_finish(pool, pool.keys_outcomes.pop(a.token), code == "ok")
    if kind == "made":
        for name, number in names:
            pool.claimed.discard(name)
            if code == "ok":
                pool.ids[name] = number
        value = extra
    elif kind == "delete":
        if code == "ok":
            for name in [n for n in names if pool.ids.get(n) == extra]:
                del pool.ids[name]
    elif kind == "rename":
        pool.claimed -= {names[1], extra}
        if code == "ok" and names[0] != names[1]:
            pool.ids.pop(names[0], None)
            pool.ids[names[1]] = extra
    elif kind == "published":
        publish_finish(pool, names, code == "ok")
        value = [(volume, snapshot, bool(a.publications[i].follows)) for i, (volume, snapshot) in enumerate(extra)]
    elif kind == "read":
        value = (<const char *>a.data)[:a.op.length] if code == "ok" else a.op.result
    elif kind == "share":
        value = a.op.length - a.sharing.left_blocks * L_BLOCK_BYTES
    elif kind == "compare":
        value = a.op.result if code == "miscompare" else None
    elif kind == "walk":
        value = [extra(a.rows[i].start * L_BLOCK_BYTES, a.rows[i].length * L_BLOCK_BYTES, bool(a.rows[i].value))
                 for i in range(a.n_rows)]
    elif kind == "runs":
        try:
            value = runs_pack(a, extra[0], extra[1])
        except PoolError as e:
            code = e.code         # there was no memory for the answer
    elif kind == "exclusive":
        value = {number: a.sole.blocks[i] * L_BLOCK_BYTES for i, number in enumerate(names) if a.sole.blocks[i] != ~<uint64_t>0}
    elif kind == "trim":
        value = TrimStep(None if a.trim.over else a.trim.next_run * RUN_BYTES, a.trim.found_blocks * L_BLOCK_BYTES)
    elif kind == "scrub":
        unit = L_BLOCK_BYTES if a.scrub.phase == SP_MAP else 1
        value = ScrubStep(None if a.scrub.over else a.scrub.next * unit, a.scrub.pages,
                          [(a.rows[i].start * unit, a.rows[i].length * unit, a.rows[i].value) for i in range(a.n_rows)])
    token = a.token
    admin_free(pool, a)
    if kind == "own":
        return None
    return Completion(token, code, value if code in ("ok", "miscompare", "checksum", "io_read", "limit") else None)


cdef int new_objects(Pool pool, lnt_admin *a, list slots) except -1:
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


cdef int unbegin(Pool pool) except -1:
    """Give back what an operation had when there was no memory for the rest of it."""
    cdef lnt_admin *a = <lnt_admin *><size_t>pool.unsubmitted
    cdef uint32_t i
    if a == NULL:
        return 0
    if a.token in pool.keys_outcomes:
        kv_finish(pool, pool.keys_outcomes.pop(a.token), False)
    for i in range(a.n_made):
        pthread_mutex_lock(&pool.p.lock)
        slot_free(pool.p, a.made[i].slot)
        pthread_mutex_unlock(&pool.p.lock)
        free(a.made[i])
    admin_free(pool, a)
    return 0


def physical_exponent(physical_block_bytes, block_bytes):
    """How many times a logical block doubles to make a physical one; PoolError invalid when it does not."""
    if physical_block_bytes not in (512, 4096) or physical_block_bytes < block_bytes:
        raise PoolError("invalid", "a physical block has 512 or 4096 bytes, not fewer than a logical one")
    return (physical_block_bytes // block_bytes).bit_length() - 1


cdef int reservable(Pool pool, quota_bytes, reserve_bytes, more_bytes) except -1:
    """PoolError unless the numbers make sense and so many more bytes can be kept free for one object."""
    if not (0 <= quota_bytes <= 1 << 60 and 0 <= reserve_bytes <= 1 << 60):
        raise PoolError("invalid", "a quota or reservation is not negative, and at most 1 EiB")
    if 0 < quota_bytes < reserve_bytes:
        raise PoolError("invalid", "a reservation beyond the quota could never be used")
    numbers = pool.stats()
    if more_bytes > 0 and more_bytes > numbers["available_bytes"] - numbers["reserved_unused_bytes"]:
        raise PoolError("no_space", "the pool cannot hold that reservation")
    return 0


def start_create(Pool pool, *, str name, size_bytes, block_bytes=512, checksum=False, quota_bytes=0, reserve_bytes=0,
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
    a = admin_new(pool, A_CREATE)
    new_objects(pool, a, [slot])
    a.obj = a.made[0]
    number = a.obj.pub.id
    return submit(pool, a, ("made", [(name, number)], number))


cdef list derived_slots(Pool pool, str kind, list pairs):
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


cdef int disclaim(Pool pool, list slots) except -1:
    """Let go of the names of objects that are not made."""
    for slot in slots:
        pool.claimed.discard(object_info(slot).name)
    return 0


cdef object derive(Pool pool, list pairs, str kind, bint single, object keys):
    cdef lnt_admin *a
    cdef uint32_t i
    cdef list slots = []
    if not pairs:
        raise PoolError("not_found", "there is no such source")
    if len(pairs) > 400:
        raise PoolError("limit", "at most 400 objects are derived at one instant")
    a = admin_new(pool, A_DERIVE)
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
    return submit(pool, a, ("made", made, numbers[0] if single else numbers))


cdef int keys_beside(Pool pool, lnt_admin *a, object keys, list slots) except -1:
    """Attach the keys that an operation changes with its new objects: all of it is one frame. PoolError: busy, limit."""
    cdef bytes records
    if keys is None:
        return 0
    changes = keys_with(pool, keys, [object_info(slot).id for slot in slots])
    records = kv_records(changes)
    if len(records) + len(slots) * (L_SLOT_BYTES + 40) > FRAME_RECORDS_BYTES:
        raise PoolError("limit", "so many objects and keys are not made at one instant")
    return keys_attach(pool, a, changes, records)


def start_snapshot(Pool pool, *, pairs, keys=None):
    return derive(pool, list(pairs), "snapshot", False, keys)


def start_clone(Pool pool, *, source_id, str name):
    return derive(pool, [(source_id, name)], "clone", True, None)


cdef list published_slots(Pool pool, dict item, object staged):
    """The slots of what one item of a publication makes: the volume, where there is none yet, and the snapshot."""
    alike = {"size_bytes": staged.size_bytes, "block_bytes": staged.block_bytes, "checksum": staged.checksum,
             "physical_exponent": staged.physical_exponent}
    slots = []
    try:
        if item["volume_id"]:
            volume = pool.info(item["volume_id"])
            if volume is None:
                raise PoolError("not_found", "there is no such volume")
            if volume.kind == "snapshot" or volume.block_bytes != staged.block_bytes or volume.checksum != staged.checksum:
                raise PoolError("invalid", "block size or checksums differ from the volume's")
            volume_id, volume_name = volume.id, volume.name
        else:
            volume_name = item["volume_name"]
            slots.append(slot_of(pool, "volume", volume_name, {**alike, "props": item.get("volume_props", b"")}))
            volume_id = object_info(slots[0]).id
        slots.append(slot_of(pool, "snapshot", item["snapshot_name"], {
            **alike, "origin": volume_name, "origin_id": volume_id, "props": item.get("props", b""),
            "created_us": item.get("created_us", 0)}))
    except BaseException:
        disclaim(pool, slots)
        raise
    return slots


def start_publish(Pool pool, *, items, keys=None):
    """`items`: dicts of staged_id, volume_id (0: `volume_name` is made), snapshot_name, base_id (0: the volume stays as it is)."""
    cdef lnt_admin *a
    cdef lnt_publication *x
    cdef uint32_t i, made = 0
    cdef list slots = [], rows = [], gone = []
    items = list(items)
    volumes = [each["volume_id"] for each in items if each["volume_id"]]
    if not items or len(items) > 100 or len({each["staged_id"] for each in items}) < len(items) or len(set(volumes)) < len(volumes):
        raise PoolError("invalid", "1 to 100 volumes are published at one instant, each once")
    a = admin_new(pool, A_PUBLISH)
    try:
        a.n_publications = len(items)
        a.publications = <lnt_publication *>memory_for(a.n_publications * sizeof(lnt_publication))
        a.sources = <lnt_object **>memory_for(3 * a.n_publications * sizeof(lnt_object *))
        a.places = <lnt_range *>memory_for(3 * a.n_publications * sizeof(lnt_range))
        for i in range(a.n_publications):
            item, x = items[i], &a.publications[i]
            x.staged = published_handle(pool, a, item["staged_id"])
            x.volume = published_handle(pool, a, item["volume_id"]) if item["volume_id"] else NULL
            x.base = published_handle(pool, a, item["base_id"]) if item["base_id"] else NULL
            staged = pool.info(item["staged_id"])
            rows.append(published_slots(pool, item, staged))
            slots += rows[i]
            gone.append((staged.name, staged.id))
        keys_beside(pool, a, keys, slots)
    except BaseException:
        disclaim(pool, slots)
        admin_free(pool, a)
        raise
    new_objects(pool, a, slots)
    answer = []
    for i in range(a.n_publications):
        x = &a.publications[i]
        if x.volume == NULL:
            x.made_volume = a.made[made]
        x.snapshot = a.made[made + len(rows[i]) - 1]
        made += len(rows[i])
        answer.append((x.made_volume.pub.id if x.volume == NULL else x.volume.pub.id, x.snapshot.pub.id))
    return submit(pool, a, ("published", ([(each.name, each.id) for each in map(object_info, slots)], gone), answer))


cdef lnt_object *published_handle(Pool pool, lnt_admin *a, object object_id) except NULL:
    a.sources[a.n_sources] = handle(pool, object_id)
    a.n_sources += 1
    return a.sources[a.n_sources - 1]


cdef int publish_finish(Pool pool, tuple names, bint ok) except -1:
    made, gone = names
    for name, number in made:
        pool.claimed.discard(name)
        if ok:
            pool.ids[name] = number
    for name, number in gone if ok else []:
        if pool.ids.get(name) == number:
            del pool.ids[name]
    return 0


def start_delete(Pool pool, *, object_id):
    cdef lnt_admin *a
    info = pool.info(object_id)
    if info is None:
        raise PoolError("not_found", f"there is no object {object_id}")
    unrenamed(pool, object_id)
    a = admin_on(pool, A_DELETE, object_id)
    return submit(pool, a, ("delete", [info.name], object_id))


def start_revert(Pool pool, *, volume_id, snapshot_id, str safety_name=""):
    cdef lnt_admin *a = admin_on(pool, A_REVERT, volume_id, snapshot_id)
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
    except PoolError:
        admin_free(pool, a)
        raise
    new_objects(pool, a, slots)
    if safety_name:
        made = [(safety_name, a.made[0].pub.id)]
    return submit(pool, a, ("made", made, made[0][1] if made else 0))


def start_resize(Pool pool, *, object_id, size_bytes):
    cdef lnt_admin *a
    info = pool.info(object_id)
    if info is None:
        raise PoolError("not_found", f"there is no object {object_id}")
    if info.kind == "snapshot":
        raise PoolError("protected", "a snapshot cannot be resized")
    if size_bytes <= 0 or size_bytes % L_BLOCK_BYTES or size_bytes > 1 << 56:
        raise PoolError("invalid", "a size is a positive multiple of 4096 bytes")
    a = admin_on(pool, A_RESIZE, object_id)
    a.resize.size_bytes = size_bytes
    return submit(pool, a, ("plain", None, None))


SET_FIELDS = {"name": SET_NAME, "props": SET_PROPS, "quota_bytes": SET_QUOTA, "reserve_bytes": SET_RESERVE,
              "physical_exponent": SET_PHYSICAL}


cdef object change(Pool pool, info, dict args, object outcome):
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
    a = admin_on(pool, A_SET, info.id)
    a.change.slot = <uint8_t *>memory_for(L_SLOT_BYTES)
    memcpy(a.change.slot, <const char *>slot, L_SLOT_BYTES)
    a.change.fields = mask
    return submit(pool, a, outcome)


cdef int unrenamed(Pool pool, object object_id) except -1:
    """PoolError while a rename of the object is under way: which name it has is open."""
    if object_id in pool.claimed:
        raise PoolError("busy", "the object is being renamed")
    return 0


def start_rename(Pool pool, *, object_id, str name):
    info = pool.info(object_id)
    if info is None:
        raise PoolError("not_found", f"there is no object {object_id}")
    unrenamed(pool, object_id)
    if name != info.name:
        claim(pool, name)
    pool.claimed.add(object_id)
    try:
        return change(pool, info, {"name": name}, ("rename", (info.name, name), object_id))
    except PoolError:
        pool.claimed -= {name, object_id}
        raise


def start_set(Pool pool, *, object_id, props=None, quota_bytes=None, reserve_bytes=None, physical_block_bytes=None):
    info = pool.info(object_id)
    if info is None:
        raise PoolError("not_found", f"there is no object {object_id}")
    quota = info.quota_bytes if quota_bytes is None else quota_bytes
    reserve = info.reserve_bytes if reserve_bytes is None else reserve_bytes
    reservable(pool, quota, reserve, max(reserve - info.mapped_bytes, 0) - max(info.reserve_bytes - info.mapped_bytes, 0))
    exponent = None if physical_block_bytes is None else physical_exponent(physical_block_bytes, info.block_bytes)
    return change(pool, info, {"props": props, "quota_bytes": quota_bytes, "reserve_bytes": reserve_bytes,
                               "physical_exponent": exponent}, ("plain", None, None))


cdef int shrinks_resume(Pool pool) except -1:
    """Shrinks that a crash interrupted go on in the background, before any other change of the catalog."""
    cdef lnt_admin *a
    cdef lnt_object *o
    cdef uint64_t i
    numbers = []
    for i in range(pool.p.omask + 1):
        o = pool.p.ohash[i]
        while o != NULL:
            if o.flags & OF_TAIL:
                numbers.append(o.pub.id)
            o = o.hnext
    for number in numbers:
        a = admin_on(pool, A_RESIZE, number)
        a.resize.size_bytes = a.obj.pub.size_bytes
        submit(pool, a, ("own", None, None))
    return 0


cdef object run_rw(Pool pool, uint8_t kind, object_id, offset, length, bytes data, uint8_t flags, object outcome):
    cdef lnt_admin *a
    if offset < 0 or length < 0 or offset > 1 << 60 or length > 1 << 60:
        raise PoolError("range", "outside the object")
    if kind == OP_READ and length > 1 << 30:
        raise PoolError("limit", "at most 1 GiB is read at once")
    a = admin_on(pool, A_DATA, object_id) if kind != OP_SYNC else admin_new(pool, A_DATA)
    a.op.kind = kind
    a.op.flags = flags
    a.op.offset = offset
    a.op.length = length
    a.op.obj = <lnt_obj *>a.obj
    if data is not None or kind == OP_READ:
        a.data = <uint8_t *>mem_aligned((len(data) if data is not None else length) or 1)
        if a.data == NULL:
            raise out_of_memory()
        if data is not None:
            memcpy(a.data, <const char *>data, len(data))
        a.op.buf = a.data
    return submit(pool, a, outcome)


def start_read(Pool pool, *, object_id, offset_bytes, length_bytes):
    return run_rw(pool, OP_READ, object_id, offset_bytes, length_bytes, None, 0, ("read", None, None))


def start_write(Pool pool, *, object_id, offset_bytes, data, fua=False):
    return run_rw(pool, OP_WRITE, object_id, offset_bytes, len(data), bytes(data), OPF_FUA if fua else 0, ("plain", None, None))


def start_unmap(Pool pool, *, object_id, offset_bytes, length_bytes, fua=False, keep=False):
    flags = (OPF_FUA if fua else 0) | (OPF_NOUNMAP if keep else 0)
    return run_rw(pool, OP_UNMAP, object_id, offset_bytes, length_bytes, None, flags, ("plain", None, None))


def start_compare_and_write(Pool pool, *, object_id, offset_bytes, expected, data, fua=False):
    if len(expected) != len(data):
        raise PoolError("invalid", "what is compared and what is written differ in length")
    return run_rw(pool, OP_COMPARE_WRITE, object_id, offset_bytes, len(data), bytes(expected) + bytes(data),
                  OPF_FUA if fua else 0, ("compare", None, None))


def start_write_atomic(Pool pool, *, object_id, offset_bytes, data, fua=False):
    return run_rw(pool, OP_WRITE_ATOMIC, object_id, offset_bytes, len(data), bytes(data), OPF_FUA if fua else 0,
                  ("plain", None, None))


def start_flush(Pool pool):
    return run_rw(pool, OP_SYNC, 0, 0, 0, None, 0, ("plain", None, None))


def start_share(Pool pool, *, dst_id, dst_offset_bytes, src_id, src_offset_bytes, length_bytes):
    cdef lnt_admin *a
    dst, src = pool.info(dst_id), pool.info(src_id)
    if dst is None or src is None:
        raise PoolError("not_found", "there is no such source or destination")
    if dst.kind == "snapshot":
        raise PoolError("protected", "a snapshot cannot be written")
    if (dst_offset_bytes | src_offset_bytes | length_bytes) % L_BLOCK_BYTES or dst.checksum != src.checksum:
        raise PoolError("invalid", "blocks are shared at multiples of 4096 bytes, between objects that agree on checksums")
    if dst_offset_bytes + length_bytes > dst.size_bytes or src_offset_bytes + length_bytes > src.size_bytes:
        raise PoolError("range", "outside the object")
    if dst_id == src_id and abs(dst_offset_bytes - src_offset_bytes) < length_bytes:
        raise PoolError("invalid", "source and destination overlap")
    a = admin_on(pool, A_SHARE, dst_id, src_id)
    a.sharing.block = dst_offset_bytes // L_BLOCK_BYTES
    a.sharing.source_block = src_offset_bytes // L_BLOCK_BYTES
    a.sharing.left_blocks = length_bytes // L_BLOCK_BYTES
    a.op.length = length_bytes
    return submit(pool, a, ("share", None, None))


def start_extents(Pool pool, *, object_id, offset_bytes, length_bytes, limit):
    cdef uint64_t first = offset_bytes // L_BLOCK_BYTES, end = (offset_bytes + length_bytes + L_BLOCK_BYTES - 1) // L_BLOCK_BYTES
    cdef uint32_t most = limit
    cdef lnt_admin *a = admin_on(pool, A_EXTENTS, object_id)
    a.walk.next_block = first
    a.walk.end_block = min(end, a.obj.pub.size_bytes // L_BLOCK_BYTES)
    a.walk.most_rows = most
    return submit(pool, a, ("walk", None, lambda start, length, mapped: (start, length, mapped)))


def start_diff(Pool pool, *, a_id, b_id, offset_bytes=0, limit=1000):
    cdef uint64_t first = offset_bytes // L_BLOCK_BYTES
    cdef uint32_t most = limit
    cdef lnt_admin *a = admin_on(pool, A_DIFF, a_id, b_id)
    a.walk.next_block = first
    a.walk.end_block = max(a.obj.pub.size_bytes, a.other.pub.size_bytes) // L_BLOCK_BYTES
    a.walk.most_rows = most
    return submit(pool, a, ("walk", None, lambda start, length, mapped: (start, length)))


def start_runs(Pool pool, *, object_id, offset_bytes, length_bytes, limit, since_id=None):
    cdef lnt_admin *a = admin_on(pool, A_EXTENTS if since_id is None else A_DIFF, object_id, since_id)
    first = offset_bytes // L_BLOCK_BYTES
    end = min((offset_bytes + length_bytes + L_BLOCK_BYTES - 1) // L_BLOCK_BYTES, a.obj.pub.size_bytes // L_BLOCK_BYTES)
    a.walk.next_block = first
    a.walk.end_block = end
    if since_id is not None:
        a.walk.end_block = min(end, a.other.pub.size_bytes // L_BLOCK_BYTES)    # behind its end everything is new
    a.walk.most_rows = min(limit, RUNS_MOST)
    return submit(pool, a, ("runs", None, (first, end)))


def start_exclusive(Pool pool, *, list object_ids):
    cdef lnt_admin *a = admin_new(pool, A_EXCLUSIVE)
    cdef lnt_obj *o
    numbers = []
    a.sources = <lnt_object **>memory_for((len(object_ids) + 1) * sizeof(lnt_object *))
    a.sole.blocks = <uint64_t *>memory_for((len(object_ids) + 1) * sizeof(uint64_t))
    for number in object_ids:
        o = pool.open_handle(number)
        if o != NULL:
            a.sources[a.n_sources] = <lnt_object *>o
            a.n_sources += 1
            numbers.append(number)
    return submit(pool, a, ("exclusive", numbers, None))


STARTERS = {name[6:]: value for name, value in globals().items() if name.startswith("start_") and name != "start_operation"}


def start_operation(Pool pool, str op, dict args):
    if op not in STARTERS:
        raise PoolError("invalid", f"there is no operation {op}")
    claimed = set(pool.claimed)
    try:
        return STARTERS[op](pool, **args)
    except PoolError as e:
        if e.code == "no_memory":     # nothing has begun
            pool.claimed &= claimed
            unbegin(pool)
        raise
