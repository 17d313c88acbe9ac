"""The store of keys as Python sees it: which slots of the catalog a change writes."""
from core.errors import PoolError
from core.pool.info import KeyPart, key_record, key_slot
from core.pool.submission import Completion

from core.base.layout cimport L_KV_CHUNK_BYTES, L_KV_KEY_BYTES, L_KV_VALUE_BYTES, L_SLOT_BYTES, SK_KV
from core.base.native cimport pthread_mutex_lock, pthread_mutex_unlock
from core.base.operation cimport ADMIN_KV
from core.catalog.slots cimport NO_SLOT, slot_alloc, slot_free
from core.pool.submission cimport Outcome, admin_free, admin_new, memory_for, out_of_memory, submit
from libc.stdint cimport uint32_t, uint8_t
from libc.stdlib cimport free
from libc.string cimport memcpy


cdef bytes kv_records(dict changes):
    """The records of a change. PoolError: invalid, limit."""
    cdef bytes records = b""
    for key, value in changes.items():
        raw = key.encode()
        if not raw or len(raw) > L_KV_KEY_BYTES or (value is not None and len(value) > L_KV_VALUE_BYTES):
            raise PoolError("invalid", f"a key has 1 to {L_KV_KEY_BYTES} bytes, its value at most {L_KV_VALUE_BYTES}")
        records += key_record(raw, value)
    if len(records) > 200000:
        raise PoolError("limit", "one change of keys has at most 200,000 bytes")
    return records


cdef int slots_back(PoolState pool, list slots) except -1:
    cdef uint32_t slot
    pthread_mutex_lock(&pool.p.lock)
    for slot in slots:
        slot_free(pool.p, slot)
    pthread_mutex_unlock(&pool.p.lock)
    return 0


cdef int keys_attach(PoolState pool, lnt_admin *a, dict changes, bytes records) except -1:
    """Give an operation a change of keys, with their slots: no other change of them is under way."""
    cdef uint32_t slot
    cdef bytes packed
    images, added = [], []
    outcome = {}
    for key, value in changes.items():
        raw = key.encode()
        old = pool.keys[key][1] if key in pool.keys else []
        chunks = [] if value is None else [
            value[i:i + L_KV_CHUNK_BYTES] for i in range(0, max(len(value), 1), L_KV_CHUNK_BYTES)]
        slots = old[:len(chunks)]
        pthread_mutex_lock(&pool.p.lock)
        for _i in range(len(chunks) - len(slots)):
            slot = slot_alloc(pool.p, SK_KV)
            if slot != NO_SLOT:
                slots.append(slot)
        pthread_mutex_unlock(&pool.p.lock)
        added += slots[len(old):]
        if len(slots) < len(chunks):
            slots_back(pool, added)
            raise out_of_memory()
        images += [(slots[i], key_slot(KeyPart(raw, i, len(chunks), bytes(chunk)))) for i, chunk in enumerate(chunks)]
        images += [(slot, bytes(L_SLOT_BYTES)) for slot in old[len(chunks):]]
        outcome[key] = (None if value is None else (bytes(value), slots), slots[len(old):])
    packed = b"".join(image for _, image in images)
    try:
        a.keys.slots = <uint32_t *>memory_for((len(images) + 1) * sizeof(uint32_t))
        a.keys.images = <uint8_t *>memory_for(len(packed) + 1)
        a.keys.records = <uint8_t *>memory_for(len(records) + 1)
    except PoolError:
        slots_back(pool, added)
        raise
    a.keys.count = len(images)
    memcpy(a.keys.images, <const char *>packed, len(packed))
    for i in range(len(images)):
        a.keys.slots[i] = images[i][0]
    if records:
        memcpy(a.keys.records, <const char *>records, len(records))
        a.keys.records_bytes = len(records)
        a.keys.records_count = len(changes)
    pool.keys_changing.update(changes)
    pool.keys_outcomes[a.token] = outcome
    return 0


cdef int kv_begin(PoolState pool, uint64_t token, dict changes, bytes records) except -1:
    cdef lnt_admin *a = admin_new(pool, ADMIN_KV)
    a.token = token
    keys_attach(pool, a, changes, records)
    submit(pool, a, Outcome())
    return 0


cdef dict keys_with(PoolState pool, object keys, list numbers):
    """What a change of keys says beside new objects, whose ids it is told. PoolError: busy while one of them changes."""
    changes = {} if keys is None else dict(keys(numbers))
    if changes and kv_must_wait(pool, changes):
        raise PoolError("busy", "what is kept of these objects is being changed")
    return changes


cdef int kv_finish(PoolState pool, dict outcome, bint ok) except -1:
    """A change is over: what it did holds from now on, or nothing of it; those that waited for it begin."""
    for key, (entry, added) in outcome.items():
        if ok and entry is None:
            pool.keys.pop(key, None)
        elif ok:
            pool.keys[key] = entry
        else:
            slots_back(pool, added)
    pool.keys_changing.difference_update(outcome)
    waiting, pool.keys_waiting = pool.keys_waiting, []
    for token, changes, records in waiting:
        if kv_must_wait(pool, changes):
            pool.keys_waiting.append((token, changes, records))
        else:
            try:
                kv_begin(pool, token, changes, records)
            except PoolError:
                unbegin(pool)
                del pool.ops[token]
                pool.early.append(Completion(token, "no_memory", None))
    return 0


cdef bint kv_must_wait(PoolState pool, dict changes):
    """Which slots a key has is known when the change before it is over: that one may be refused."""
    return not pool.keys_changing.isdisjoint(changes) or any(
        not changes.keys().isdisjoint(earlier) for _, earlier, _ in pool.keys_waiting)


cdef int unbegin(PoolState pool) except -1:
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


def start_kv(PoolState pool, *, changes):
    cdef uint64_t token
    changes = dict(changes)
    records = kv_records(changes)
    token = pool.next_token
    pool.next_token += 1
    if kv_must_wait(pool, changes):
        pool.ops[token] = Outcome()
        pool.keys_waiting.append((token, changes, records))
    else:
        kv_begin(pool, token, changes, records)
    return token
