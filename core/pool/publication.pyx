"""What was received becomes a volume with a snapshot, all of it at one instant, as Python starts it (docs/durability.md)."""
from core.errors import PoolError
from core.pool.info import object_info

from core.base.object cimport lnt_object, lnt_range
from core.base.operation cimport ADMIN_PUBLISH, lnt_admin, lnt_publication
from core.pool.object_operations cimport disclaim, keys_beside, new_objects, slot_of
from core.pool.state cimport PoolState
from core.pool.submission cimport Outcome, admin_free, admin_new, handle, memory_for, submit
from libc.stdint cimport uint32_t


cdef class Published(Outcome):
    cdef tuple names          # of what was made and of what is gone, (name, id) each
    cdef list answer          # (volume, snapshot) ids

    def __init__(self, tuple names, list answer):
        self.names, self.answer = names, answer

    cdef object value(self, PoolState pool, lnt_admin *a, str code):
        publish_finish(pool, self.names, code == "ok")
        return [(volume, snapshot, bool(a.publications[i].follows)) for i, (volume, snapshot) in enumerate(self.answer)]


cdef list published_slots(PoolState pool, dict item, object staged):
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


cdef lnt_object *published_handle(PoolState pool, lnt_admin *a, object object_id) except NULL:
    a.sources[a.n_sources] = handle(pool, object_id)
    a.n_sources += 1
    return a.sources[a.n_sources - 1]


cdef int publish_finish(PoolState pool, tuple names, bint ok) except -1:
    made, gone = names
    for name, number in made:
        pool.claimed.discard(name)
        if ok:
            pool.ids[name] = number
    for name, number in gone if ok else []:
        if pool.ids.get(name) == number:
            del pool.ids[name]
    return 0


def start_publish(PoolState pool, *, items, keys=None):
    """`items`: dicts of staged_id, volume_id (0: `volume_name` is made), snapshot_name, base_id (0: the volume stays as is)."""
    cdef lnt_admin *a
    cdef lnt_publication *x
    cdef uint32_t i, made = 0
    cdef list slots = [], rows = [], gone = []
    items = list(items)
    volumes = [each["volume_id"] for each in items if each["volume_id"]]
    twice = len({each["staged_id"] for each in items}) < len(items) or len(set(volumes)) < len(volumes)
    if not items or len(items) > 100 or twice:
        raise PoolError("invalid", "1 to 100 volumes are published at one instant, each once")
    a = admin_new(pool, ADMIN_PUBLISH)
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
    return submit(pool, a, Published(([(each.name, each.id) for each in map(object_info, slots)], gone), answer))
