"""The data plane's Python face: numbers for sessions and connections, messages to the thread, events from it.

Lives here and nowhere else: who made what (sessions, connections and LUNs are allocated and freed here, with the GIL; the thread
owns them in between).
"""
from core.base.memory cimport mem_zeroed
from core.pool.engine cimport Pool
from core.wire.answer cimport STATUS_BUSY
from core.wire.buffers cimport buffers_init
from core.wire.delay cimport delay_init
from core.wire.figures cimport connection_stats, loop_stats, lun_stats
from core.wire.handle cimport handle_index, handle_of
from core.wire.histogram cimport LATENCY_BUCKETS, LATENCY_FIRST_SHIFT, lnt_latency
from core.wire.image cimport image_load
from core.wire.keepalive cimport keepalive_init
from core.wire.kept cimport kept_init
from core.wire.latency cimport latency_add
from core.wire.limit cimport Limit
from core.wire.loop cimport loop_join, loop_load, loop_start
from core.wire.mailbox cimport events_all, request_free, request_new, request_post, requests_spare, spares_free
from core.wire cimport nexus
from core.wire.nexus cimport (
    CONNECTIONS_MAX, CONNECTION_OPEN, EV_ABORTED, EV_CLOSED, EV_COMMAND, EV_CONNECTION_FREED, EV_LUN_RELEASED, EV_PDU,
    EV_SESSION_CLOSED, IN_ABORT, IN_COMPLETE, IN_CONNECTION, IN_CONNECTION_CLOSE, IN_LIMITS, IN_LIMIT_CHANGED, IN_LUN,
    IN_LUN_REMOVE, IN_MAX_SEND, IN_SEND, IN_SESSION, IN_SESSION_REMOVE, IN_STOP, SESSIONS_MAX, lnt_abort,
    lnt_connection, lnt_event, lnt_limit, lnt_lun, lnt_reactor, lnt_request, lnt_session,
)
from core.wire.numbering cimport numbering_init
from core.wire.pdu cimport BHS_BYTES, BHS_CDB, BHS_FLAGS, BHS_LUN, BHS_OPCODE, OPCODE_MASK, get_be16, lun_number
from core.wire.share cimport share_new
from core.wire.task cimport tasks_drop, tasks_init
from core.wire.thread cimport RELEASE, lnt_store32, lnt_sub32, pthread_mutex_destroy, pthread_mutex_init
from core.wire.transfer_tag cimport SLOTS_MAX
from libc.errno cimport ENOMEM
from libc.stdint cimport uint32_t, uint64_t, uint8_t, uintptr_t
from libc.stdlib cimport free
from libc.string cimport memcpy, memset

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize

import os

from core.wire.events import (
    AbortedEvent, ClosedEvent, CommandEvent, LunReleasedEvent, PduEvent, SessionClosedEvent,
)
from core.wire.figures import COUNTERS
from core.wire.liburing import unloadable, uring_library

cdef extern from "<unistd.h>" nogil:
    ssize_t read(int fd, void *p, size_t n)
    int close_fd "close" (int fd)
    int usleep(unsigned int us)

cdef enum:
    SPARE_WAIT_US = 200
    SPARE_TRIES = 25000

LUNF_SLOW, LUNF_RO, LUNF_DSENSE, LUNF_WRITE_SLOW = nexus.LUNF_SLOW, nexus.LUNF_RO, nexus.LUNF_DSENSE, nexus.LUNF_WRITE_SLOW
CLOSE_REASONS = ("peer", "error", "protocol", "digest", "keepalive", "requested", "stopped")


cdef object no_memory():
    return OSError(ENOMEM, "there is no memory for it now")


cdef lnt_request *message(Reactor reactor, uint8_t kind) except NULL:
    # A request without data is always made: with no memory and no spare one the thread, which never waits for us, gives one back.
    cdef lnt_request *m = request_new(&reactor.r, kind, 0)
    cdef int tries = 0
    while m == NULL and reactor.running and tries < SPARE_TRIES:
        with nogil:
            usleep(SPARE_WAIT_US)
        tries += 1
        m = request_new(&reactor.r, kind, 0)
    if m == NULL:
        raise no_memory()
    return m


cdef lnt_limit *limit_of(Limit limit) noexcept:
    return NULL if limit is None else &limit.limit


cdef bytes cdb_of(lnt_event *e):
    # 16 bytes from the BHS, extended by an extended-CDB AHS (RFC 7143 §11.2.2.3). The chain was checked on arrival.
    cdef const uint8_t *a = <const uint8_t *>(e + 1) + e.length
    cdef uint32_t at = 0
    cdef uint32_t n
    cdef bytes cdb = e.bhs[BHS_CDB:BHS_BYTES]
    while at + 4 <= e.ahs_length:
        n = get_be16(a + at)
        if a[at + 2] == 1 and n > 1 and at + 3 + n <= e.ahs_length:
            cdb += PyBytes_FromStringAndSize(<const char *>(a + at + 4), n - 1)
        at += (n + 3 + 3) & ~<uint32_t>3
    return cdb


DIRECTIONS = ("read", "write", "unmap", "sync")
LATENCY_BOUNDS_US = tuple(1 << LATENCY_FIRST_SHIFT + k for k in range(LATENCY_BUCKETS - 1))


cdef class Reactor:
    cdef lnt_reactor r
    cdef Pool pool
    cdef readonly int event_fd
    cdef bint running
    cdef dict sessions          # handle -> lnt_session *
    cdef dict conns             # handle -> lnt_connection *
    cdef dict luns              # (session handle, number) -> lnt_lun *
    cdef dict leaving           # lnt_lun * -> its pool handle still open
    cdef dict limits            # lnt_lun * -> the limits that it may refer to
    cdef dict totals            # object_id -> counters of LUNs that are gone
    cdef dict past              # object_id -> lnt_latency * of LUNs that are gone
    cdef list free_sessions
    cdef list free_conns
    cdef uint32_t generation

    def __cinit__(self, Pool pool not None, *, cpu=None, poll_us=0, max_transfer_bytes=8 << 20,
                  buffer_bytes=256 << 20, max_tasks=8192, inline_io=None):
        self.event_fd = -1
        self.r.mailbox.wake_fd = -1
        self.pool = pool
        if not 1 <= max_tasks <= SLOTS_MAX:
            raise ValueError(f"max_tasks is 1 to {SLOTS_MAX}")
        if not 65536 <= max_transfer_bytes <= 16 << 20:
            raise ValueError("max_transfer_bytes is 64 KiB to 16 MiB")
        if buffer_bytes < 4 * max_transfer_bytes:
            raise ValueError("buffer_bytes is at least four times max_transfer_bytes")
        self.sessions, self.conns, self.luns, self.leaving, self.totals, self.past = {}, {}, {}, {}, {}, {}
        self.limits = {}
        self.free_sessions = list(range(SESSIONS_MAX - 1, -1, -1))
        self.free_conns = list(range(CONNECTIONS_MAX - 1, -1, -1))
        pthread_mutex_init(&self.r.mailbox.mutex, NULL)
        self.r.pool = pool.p
        self.r.lease_us = &pool.p.lease_us
        self.r.cpu = -1 if cpu is None else cpu
        self.r.poll_us = poll_us
        self.r.inline_io = -1 if inline_io is None else bool(inline_io)
        self.r.max_transfer = max_transfer_bytes
        buffers_init(&self.r.buffers, buffer_bytes)
        self.r.connection_table = <lnt_connection **>mem_zeroed(CONNECTIONS_MAX * sizeof(lnt_connection *))
        if not tasks_init(&self.r, max_tasks) or self.r.connection_table == NULL or not requests_spare(&self.r):
            raise MemoryError
        self.event_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.r.mailbox.event_fd = self.event_fd
        self.r.mailbox.wake_fd = os.eventfd(0, os.EFD_CLOEXEC)

    def __dealloc__(self):
        if self.running:
            self.stop()
        if self.pool is not None:
            self.events()
        if self.event_fd >= 0:
            close_fd(self.event_fd)     # at the interpreter's end there is no os module any more
        if self.r.mailbox.wake_fd >= 0:
            close_fd(self.r.mailbox.wake_fd)
        for pointer in (self.past or {}).values():
            free(<void *><uintptr_t>pointer)
        spares_free(&self.r)
        tasks_drop(&self.r)
        free(self.r.connection_table)
        pthread_mutex_destroy(&self.r.mailbox.mutex)

    def start(self):
        cdef int rc
        if self.running:
            return
        path = uring_library()
        if loop_load(path) != 0:
            raise unloadable(path)
        self.attach_medium()
        self.r.stopping = 0
        with nogil:
            rc = loop_start(&self.r)
        if rc < 0:
            raise OSError(-rc, f"io_uring is not usable: {os.strerror(-rc)}")
        self.running = True

    cdef int attach_medium(self) except -1:
        device = self.pool.device
        address = getattr(device, "image_address", 0)
        if address:
            library = os.fsencode(device.library)
            if image_load(library) != 0:
                raise OSError(f"{device.library} lacks a call that pools on Ceph need")
            self.r.image = <void *><uintptr_t>address
            self.r.object_bytes = device.object_bytes
        self.r.fd = -1 if address else device.fileno()
        return 0

    def stop(self):
        if not self.running:
            return
        for handle in list(self.sessions):
            self.remove_session(handle)
        request_post(&self.r, message(self, IN_STOP))
        with nogil:
            loop_join(&self.r)
        self.running = False

    # -- sessions and connections -------------------------------------------------------------------------------------

    def add_session(self, *, uint32_t exp_cmd_sn, uint32_t max_cmd_window=128, bint initial_r2t=True,
                    bint immediate_data=True, uint32_t first_burst_length=65536, uint32_t max_burst_length=262144,
                    uint32_t max_outstanding_r2t=1, uint32_t tsih=0, uint32_t error_recovery_level=0, uint64_t host=0):
        cdef lnt_session *s
        cdef lnt_request *m
        if not self.free_sessions:
            raise OSError("too many sessions")
        if max_burst_length < 512 or max_outstanding_r2t < 1 or max_cmd_window < 1:
            raise ValueError("max_burst_length, max_outstanding_r2t or max_cmd_window is too small")
        m = message(self, IN_SESSION)
        s = <lnt_session *>mem_zeroed(sizeof(lnt_session))
        if s != NULL:
            s.share = share_new(host)
        if s == NULL or s.share == NULL:
            free(s)
            request_free(&self.r, m)
            raise no_memory()
        self.generation += 1
        s.handle = handle_of(self.free_sessions.pop(), self.generation)
        numbering_init(s, exp_cmd_sn, max_cmd_window)
        s.negotiated.first_burst_length = first_burst_length
        s.negotiated.max_burst_length = max_burst_length
        # A recovery R2T is the only one.
        s.negotiated.max_outstanding_r2t = 1 if error_recovery_level else max_outstanding_r2t
        s.negotiated.error_recovery_level = <uint8_t>error_recovery_level
        s.negotiated.initial_r2t = initial_r2t
        s.negotiated.immediate_data = immediate_data
        self.sessions[s.handle] = <uintptr_t>s
        m.object = s
        request_post(&self.r, m)
        return s.handle

    def session_numbers(self, uint64_t session):
        # Two plain reads of words that only the thread writes: old by a command or so, never torn.
        cdef lnt_session *s = <lnt_session *><uintptr_t>self.sessions[session]
        return s.numbering.exp_cmd_sn, s.numbering.max_cmd_sn

    def remove_session(self, uint64_t session):
        cdef lnt_request *m
        pointer = self.sessions.pop(session, None)
        if pointer is None:
            return
        m = message(self, IN_SESSION_REMOVE)
        m.object = <void *><uintptr_t>pointer
        request_post(&self.r, m)

    def add_connection(self, uint64_t session, int fd, *, uint32_t cid, uint32_t stat_sn, bytes leftover=b"",
                       bint header_digest=False, bint data_digest=False, uint32_t max_send_data_segment_length=8192,
                       uint32_t max_recv_data_segment_length=262144, double nop_interval_s=0.0,
                       double nop_timeout_s=5.0):
        cdef lnt_connection *c
        cdef lnt_request *m
        cdef uint32_t index
        pointer = self.sessions[session]
        if not self.free_conns:
            raise OSError("too many connections")
        if max_send_data_segment_length < 512 or max_recv_data_segment_length < 512:
            raise ValueError("a MaxRecvDataSegmentLength is at least 512")
        m = request_new(&self.r, IN_CONNECTION, <uint32_t>len(leftover))
        c = <lnt_connection *>mem_zeroed(sizeof(lnt_connection)) if m != NULL else NULL
        if c == NULL:
            if m != NULL:
                request_free(&self.r, m)
            raise no_memory()
        index = self.free_conns.pop()
        self.generation += 1
        c.handle = handle_of(index, self.generation)
        c.session = <lnt_session *><uintptr_t>pointer
        c.fd = fd
        c.file = index + 1
        c.cid = cid
        c.state = CONNECTION_OPEN
        c.header_digest = header_digest
        c.data_digest = data_digest
        c.stat_sn = stat_sn
        kept_init(c, stat_sn)
        c.recovery = c.session.negotiated.error_recovery_level
        c.max_send = max_send_data_segment_length
        c.max_recv = max_recv_data_segment_length
        keepalive_init(c, <uint64_t>(nop_interval_s * 1e6), <uint64_t>(nop_timeout_s * 1e6))
        self.conns[c.handle] = <uintptr_t>c
        m.object = c
        memcpy(<uint8_t *>(m + 1), PyBytes_AS_STRING(leftover), len(leftover))
        request_post(&self.r, m)
        return c.handle

    def set_max_send(self, uint64_t conn, uint32_t length):
        cdef lnt_request *m
        if length < 512:
            raise ValueError("a MaxRecvDataSegmentLength is at least 512")
        m = message(self, IN_MAX_SEND)
        m.handle = conn
        m.number = length
        request_post(&self.r, m)

    def close_connection(self, uint64_t conn):
        cdef lnt_request *m = message(self, IN_CONNECTION_CLOSE)
        m.handle = conn
        request_post(&self.r, m)

    # -- LUNs ---------------------------------------------------------------------------------------------------------

    cdef void drop_lun(self, object key) except *:
        cdef lnt_request *m
        pointer = self.luns.pop(key, None)
        if pointer is None:
            return
        self.leaving[pointer] = key
        m = message(self, IN_LUN_REMOVE)
        m.object = <void *><uintptr_t>pointer
        request_post(&self.r, m)

    def set_lun(self, uint64_t session, uint32_t lun, object_id, uint32_t flags=0, *, Limit volume_limit=None,
                Limit host_limit=None):
        cdef lnt_lun *entry
        cdef lnt_request *m
        pointer = self.sessions.get(session)
        if pointer is None or lun > 16383:
            return False
        if object_id is None:
            self.drop_lun((session, lun))
            return True
        m = message(self, IN_LUN)
        entry = <lnt_lun *>mem_zeroed(sizeof(lnt_lun))
        if entry == NULL:
            request_free(&self.r, m)
            raise no_memory()
        entry.obj = self.pool.open_handle(object_id)
        if entry.obj == NULL:
            free(entry)
            request_free(&self.r, m)
            return False
        self.drop_lun((session, lun))
        entry.session = <lnt_session *><uintptr_t>pointer
        entry.object_id = object_id
        entry.number = lun
        entry.flags = flags
        delay_init(entry, limit_of(volume_limit), limit_of(host_limit))
        self.limits[<uintptr_t>entry] = [volume_limit, host_limit]
        self.luns[(session, lun)] = <uintptr_t>entry
        m.object = entry
        request_post(&self.r, m)
        return True

    def set_lun_limits(self, uint64_t session, uint32_t lun, *, Limit volume_limit=None, Limit host_limit=None):
        cdef lnt_request *m
        pointer = self.luns.get((session, lun))
        if pointer is None:
            return
        m = message(self, IN_LIMITS)
        m.limits[0] = limit_of(volume_limit)
        m.limits[1] = limit_of(host_limit)
        m.object = <void *><uintptr_t>pointer
        kept = self.limits[pointer]     # the thread may still use those of before
        kept += [each for each in (volume_limit, host_limit) if each not in kept]
        request_post(&self.r, m)

    def limit_changed(self, Limit limit not None):
        cdef lnt_request *m = message(self, IN_LIMIT_CHANGED)
        m.object = &limit.limit
        request_post(&self.r, m)

    def set_lun_flags(self, uint64_t session, uint32_t lun, uint32_t flags):
        pointer = self.luns.get((session, lun))
        if pointer is not None:
            lnt_store32(&(<lnt_lun *><uintptr_t>pointer).flags, flags, RELEASE)

    def lun_flags(self, uint64_t session, uint32_t lun):
        pointer = self.luns.get((session, lun))
        return None if pointer is None else (<lnt_lun *><uintptr_t>pointer).flags

    cdef void free_lun(self, lnt_lun *lun) except *:
        cdef dict now = lun_stats(lun)
        cdef dict total = self.totals.setdefault(lun.object_id, dict.fromkeys(COUNTERS, 0))
        for name in COUNTERS:
            total[name] += now[name]
        if lun.latency != NULL:
            self.keep_latency(lun)
        self.pool.close_handle(lun.obj)
        self.limits.pop(<uintptr_t>lun, None)
        free(lun)

    cdef void keep_latency(self, lnt_lun *lun) except *:
        # What a LUN that goes has counted: its object's, from now on.
        pointer = self.past.get(lun.object_id)
        if pointer is None:
            self.past[lun.object_id] = <uintptr_t>lun.latency
        else:
            latency_add(<lnt_latency *><uintptr_t>pointer, lun)
            free(lun.latency)
        lun.latency = NULL

    # -- events -------------------------------------------------------------------------------------------------------

    def events(self):
        cdef lnt_event *e
        cdef lnt_event *following
        cdef uint64_t count
        cdef bint part
        cdef list out = []
        read(self.event_fd, &count, 8)
        with nogil:
            e = events_all(&self.r)
        while e != NULL:
            following = e.next
            part = e.part             # then it is gone with what it is about
            try:
                event = self.translate(e)
            except MemoryError:
                event = None
                self.unheard(e)
            if event is not None:
                out.append(event)
            if not part:
                free(e)
            e = following
        return out

    cdef int unheard(self, lnt_event *e) except -1:
        # There is no memory for what an initiator sent: that costs the command, or the connection.
        if e.kind == EV_COMMAND:
            self.complete(e.task, STATUS_BUSY)
        elif e.kind == EV_PDU:
            self.close_connection(e.connection)
        return 0

    cdef object translate(self, lnt_event *e):
        if e.kind == EV_COMMAND:
            return CommandEvent(
                e.task, e.session, e.connection, lun_number(e.bhs + BHS_LUN), e.itt, cdb_of(e),
                PyBytes_FromStringAndSize(<const char *>(e + 1), e.length), e.edtl, e.bhs[BHS_FLAGS], e.bhs[:BHS_BYTES])
        if e.kind == EV_PDU:
            lnt_sub32(&(<lnt_connection *>e.object).pending_events, 1, RELEASE)
            return PduEvent(e.session, e.connection, e.bhs[BHS_OPCODE] & OPCODE_MASK, e.bhs[:BHS_BYTES],
                            PyBytes_FromStringAndSize(<const char *>(e + 1), e.length))
        if e.kind == EV_CLOSED:
            return ClosedEvent(e.session, e.connection, CLOSE_REASONS[e.reason], e.detail.decode())
        if e.kind == EV_ABORTED:
            return self.on_aborted(<lnt_abort *>e.object)
        if e.kind == EV_LUN_RELEASED:
            return self.on_lun_released(<lnt_lun *>e.object)
        if e.kind == EV_SESSION_CLOSED:
            return self.on_session_closed(<lnt_session *>e.object)
        if e.kind == EV_CONNECTION_FREED:
            self.conns.pop(e.connection, None)
            self.free_conns.append(handle_index(e.connection))
            free(e.object)
        return None

    cdef object on_aborted(self, lnt_abort *a):
        cdef uint32_t i
        victims = tuple((a.victims[2 * i], a.victims[2 * i + 1]) for i in range(a.count if a.tell else 0))
        event = AbortedEvent(a.token, a.count, victims)
        free(a.victims)
        free(a)
        return event

    cdef object on_lun_released(self, lnt_lun *lun):
        event = LunReleasedEvent(lun.session.handle, lun.number, lun.object_id)
        self.leaving.pop(<uintptr_t>lun, None)
        self.free_lun(lun)
        return event

    cdef object on_session_closed(self, lnt_session *s):
        cdef uint64_t handle = s.handle
        for key in [k for k in self.luns if k[0] == handle]:
            self.free_lun(<lnt_lun *><uintptr_t>self.luns.pop(key))
        self.free_sessions.append(handle_index(handle))
        free(s)
        return SessionClosedEvent(handle)

    # -- answers ------------------------------------------------------------------------------------------------------

    def complete(self, uint64_t task, uint8_t status, bytes sense=b"", data_in=b"", *, data_out_length=None,
                 uint8_t response=0):
        cdef Py_buffer view
        cdef lnt_request *m
        if len(sense) > 252:
            raise ValueError("sense data has at most 252 bytes")
        PyObject_GetBuffer(data_in, &view, PyBUF_SIMPLE)
        try:
            m = request_new(&self.r, IN_COMPLETE, <uint32_t>view.len)
            if m != NULL and view.len:
                memcpy(<uint8_t *>(m + 1), view.buf, view.len)
        finally:
            PyBuffer_Release(&view)
        if m == NULL:                 # the answer cannot be held: whatever it was, it is to be asked for again
            m = message(self, IN_COMPLETE)
            status, sense, response, data_out_length = STATUS_BUSY, b"", 0, 0
        m.handle = task
        m.status = status
        m.response = response
        m.out_length = -1 if data_out_length is None else min(data_out_length, 0x7fffffff)
        m.sense_length = <uint32_t>len(sense)
        memcpy(m.sense, PyBytes_AS_STRING(sense), len(sense))
        request_post(&self.r, m)

    def send_pdu(self, uint64_t conn, bytes bhs, bytes data=b"", *, bint close=False):
        cdef lnt_request *m
        if len(bhs) != BHS_BYTES:
            raise ValueError("a BHS has 48 bytes")
        m = request_new(&self.r, IN_SEND, <uint32_t>len(data))
        if m == NULL:
            self.close_connection(conn)
            return
        m.handle = conn
        m.close = close
        memcpy(m.bhs, PyBytes_AS_STRING(bhs), BHS_BYTES)
        memcpy(<uint8_t *>(m + 1), PyBytes_AS_STRING(data), len(data))
        request_post(&self.r, m)

    def abort(self, uint64_t token, *, session=None, lun=None, itt=None, object_id=None, conn=None,
              before_cmd_sn=None, exclude_session=None, bint query=False, bint device=False, missing_cmd_sn=None,
              bint tell=False):
        cdef lnt_request *m = message(self, IN_ABORT)
        cdef lnt_abort *a = <lnt_abort *>mem_zeroed(sizeof(lnt_abort))
        if a != NULL and tell:
            a.victims = <uint64_t *>mem_zeroed(<size_t>self.r.tasks.max * 16)
        if a == NULL or tell and a.victims == NULL:
            free(a)
            request_free(&self.r, m)
            raise no_memory()
        a.token = token
        a.session = session or 0
        a.connection = conn or 0
        a.object_id = object_id or 0
        a.exclude_session = exclude_session or 0
        a.lun = -1 if lun is None else lun
        a.any_itt = itt is None
        a.itt = itt or 0
        a.any_cmd_sn = before_cmd_sn is None
        a.before_cmd_sn = before_cmd_sn or 0
        a.query = query
        a.device = device
        a.tell = tell
        a.has_missing = missing_cmd_sn is not None
        a.missing_cmd_sn = missing_cmd_sn or 0
        m.object = a
        request_post(&self.r, m)

    # -- figures ------------------------------------------------------------------------------------------------------

    def stats(self):
        cdef lnt_connection *c
        conns, luns = [], []
        objects = {k: {"session": 0, "lun": -1, "object_id": k, **v, "in_flight": 0} for k, v in self.totals.items()}
        for pointer in self.conns.values():
            c = <lnt_connection *><uintptr_t>pointer
            conns.append(connection_stats(c))
        for pointer in [*self.luns.values(), *self.leaving]:
            one = lun_stats(<lnt_lun *><uintptr_t>pointer)
            luns.append(one)
            total = objects.setdefault(one["object_id"], {"session": 0, "lun": -1, "object_id": one["object_id"],
                                                          **dict.fromkeys(COUNTERS, 0), "in_flight": 0})
            for name in COUNTERS:
                total[name] += one[name]
            total["in_flight"] += one["in_flight"]
        return {"connections": conns, "luns": luns, "objects": list(objects.values()),
                "loop": loop_stats(&self.r) | {"connections": len(self.conns), "sessions": len(self.sessions)}}

    def latencies(self):
        cdef lnt_latency sums
        cdef lnt_lun *lun
        cdef dict of_object = {}
        cdef dict out = {}
        for pointer in [*self.luns.values(), *self.leaving]:
            of_object.setdefault((<lnt_lun *><uintptr_t>pointer).object_id, []).append(pointer)
        for object_id in of_object.keys() | self.past.keys():
            memset(&sums, 0, sizeof(sums))
            past = self.past.get(object_id)
            if past is not None:
                memcpy(&sums, <void *><uintptr_t>past, sizeof(sums))
            used = past is not None
            for pointer in of_object.get(object_id, ()):
                lun = <lnt_lun *><uintptr_t>pointer
                used = latency_add(&sums, lun) or used
            if used:
                out[object_id] = {name: ([sums.counts[i][k] for k in range(LATENCY_BUCKETS)], sums.sum_us[i])
                                  for i, name in enumerate(DIRECTIONS)}
        return out

    def forget_object(self, uint64_t object_id):
        self.totals.pop(object_id, None)
        free(<void *><uintptr_t>self.past.pop(object_id, 0))
