# The data plane's Python face: numbers for sessions and connections, messages to the thread, events from it.
from core._buffers cimport buffers_init
from core._engine cimport Pool
from core._loop cimport loop_join, loop_load, loop_post, loop_start
from core._pdu cimport OPCODE_MASK, get16, lun_number
from core._session cimport (
    C_OPEN, CONNS_MAX, EV_ABORTED, EV_CLOSED, EV_COMMAND, EV_CONN_FREED, EV_LUN_RELEASED, EV_PDU, EV_SESSION_CLOSED,
    IN_ABORT, IN_COMPLETE, IN_CONN, IN_CONN_CLOSE, IN_LUN, IN_LUN_REMOVE, IN_MAX_SEND, IN_SEND, IN_SESSION,
    IN_SESSION_REMOVE,
    IN_STOP, RELEASE, SESSIONS_MAX, handle_of, lnt_abort, lnt_conn, lnt_event, lnt_inbox, lnt_lun, lnt_reactor,
    lnt_session, lnt_store32, lnt_sub32, lnt_task, pthread_mutex_destroy, pthread_mutex_init, pthread_mutex_lock,
    pthread_mutex_unlock,
)
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

import os
from array import array
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

cdef extern from "<unistd.h>" nogil:
    ssize_t read(int fd, void *p, size_t n)
    int close_fd "close" (int fd)

LUNF_SLOW, LUNF_RO, LUNF_DSENSE, LUNF_WRITE_SLOW = 1, 2, 4, 8
CLOSE_REASONS = ("peer", "error", "protocol", "digest", "keepalive", "requested", "stopped")


class CommandEvent(NamedTuple):
    task: int
    session: int
    conn: int
    lun: int
    itt: int
    cdb: bytes
    data_out: bytes
    edtl: int
    flags: int
    bhs: bytes


class PduEvent(NamedTuple):
    session: int
    conn: int
    opcode: int
    bhs: bytes
    data: bytes


class ClosedEvent(NamedTuple):
    session: int
    conn: int
    reason: str
    detail: str


class AbortedEvent(NamedTuple):
    token: int
    count: int
    victims: tuple = ()


class LunReleasedEvent(NamedTuple):
    session: int
    lun: int
    object_id: int


class SessionClosedEvent(NamedTuple):
    session: int


def _library() -> bytes:
    # pyuring ships liburing; the module itself is never imported.
    spec = find_spec("pyuring")
    if spec is None or spec.origin is None:
        raise OSError("pyuring is not installed: its liburingwrap.so is needed")
    return os.fsencode(Path(spec.origin).parent / "lib" / "liburingwrap.so")


cdef lnt_inbox *message(uint8_t kind, uint32_t length) except NULL:
    cdef lnt_inbox *m = <lnt_inbox *>calloc(1, sizeof(lnt_inbox) + length)
    if m == NULL:
        raise MemoryError
    m.kind = kind
    m.length = length
    return m


cdef bytes cdb_of(lnt_event *e):
    # 16 bytes from the BHS, extended by an extended-CDB AHS (RFC 7143 §11.2.2.3). The chain was checked on arrival.
    cdef const uint8_t *a = <const uint8_t *>(e + 1) + e.length
    cdef uint32_t at = 0
    cdef uint32_t n
    cdef bytes cdb = e.bhs[32:48]
    while at + 4 <= e.ahs_length:
        n = get16(a + at)
        if a[at + 2] == 1 and n > 1 and at + 3 + n <= e.ahs_length:
            cdb += PyBytes_FromStringAndSize(<const char *>(a + at + 4), n - 1)
        at += (n + 3 + 3) & ~<uint32_t>3
    return cdb


cdef dict lun_stats(lnt_lun *lun):
    return {"session": lun.session.handle, "lun": lun.number, "object_id": lun.object_id,
            "fast_reads": lun.fast_reads, "fast_writes": lun.fast_writes, "fast_other": lun.fast_other,
            "slow": lun.slow, "read_bytes": lun.read_bytes, "write_bytes": lun.write_bytes, "errors": lun.errors}


COUNTERS = ("fast_reads", "fast_writes", "fast_other", "slow", "read_bytes", "write_bytes", "errors")


cdef class Reactor:
    cdef lnt_reactor r
    cdef Pool pool
    cdef readonly int event_fd
    cdef bint running
    cdef dict sessions          # handle -> lnt_session *
    cdef dict conns             # handle -> lnt_conn *
    cdef dict luns              # (session handle, number) -> lnt_lun *
    cdef dict leaving           # lnt_lun * -> its pool handle still open
    cdef dict totals            # object_id -> counters of LUNs that are gone
    cdef list free_sessions
    cdef list free_conns
    cdef uint32_t generation

    def __cinit__(self, Pool pool not None, *, cpu=None, poll_us=0, max_transfer_bytes=8 << 20,
                  buffer_bytes=256 << 20, max_tasks=8192, inline_io=None):
        cdef uint32_t i
        self.event_fd = -1
        self.r.wake_fd = -1
        self.pool = pool
        if not 1 <= max_tasks <= 16384:
            raise ValueError("max_tasks is 1 to 16384")
        if not 65536 <= max_transfer_bytes <= 16 << 20:
            raise ValueError("max_transfer_bytes is 64 KiB to 16 MiB")
        if buffer_bytes < 4 * max_transfer_bytes:
            raise ValueError("buffer_bytes is at least four times max_transfer_bytes")
        self.sessions, self.conns, self.luns, self.leaving, self.totals = {}, {}, {}, {}, {}
        self.free_sessions = list(range(SESSIONS_MAX - 1, -1, -1))
        self.free_conns = list(range(CONNS_MAX - 1, -1, -1))
        pthread_mutex_init(&self.r.mutex, NULL)
        self.r.pool = pool.p
        self.r.cpu = -1 if cpu is None else cpu
        self.r.poll_us = poll_us
        self.r.inline_io = -1 if inline_io is None else bool(inline_io)
        self.r.max_transfer = max_transfer_bytes
        self.r.max_tasks = max_tasks
        buffers_init(&self.r.buffers, buffer_bytes)
        self.r.tasks = <lnt_task *>calloc(max_tasks, sizeof(lnt_task))
        self.r.conn_table = <lnt_conn **>calloc(CONNS_MAX, sizeof(lnt_conn *))
        if self.r.tasks == NULL or self.r.conn_table == NULL:
            raise MemoryError
        for i in range(self.r.max_tasks, 0, -1):
            self.r.tasks[i - 1].index = i - 1
            self.r.tasks[i - 1].generation = 1
            self.r.tasks[i - 1].next = self.r.free_tasks
            self.r.free_tasks = &self.r.tasks[i - 1]
        self.event_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.r.event_fd = self.event_fd
        self.r.wake_fd = os.eventfd(0, os.EFD_CLOEXEC)

    def __dealloc__(self):
        if self.running:
            self.stop()
        if self.pool is not None:
            self.events()
        if self.event_fd >= 0:
            close_fd(self.event_fd)     # at the interpreter's end there is no os module any more
        if self.r.wake_fd >= 0:
            close_fd(self.r.wake_fd)
        free(self.r.tasks)
        free(self.r.conn_table)
        pthread_mutex_destroy(&self.r.mutex)

    def start(self):
        cdef int rc
        if self.running:
            return
        path = _library()
        if loop_load(path) != 0:
            raise OSError(f"cannot load {os.fsdecode(path)}")
        self.r.fd = self.pool.device.fileno()
        self.r.stopping = 0
        with nogil:
            rc = loop_start(&self.r)
        if rc < 0:
            raise OSError(-rc, f"io_uring is not usable: {os.strerror(-rc)}")
        self.running = True

    def stop(self):
        if not self.running:
            return
        for handle in list(self.sessions):
            self.remove_session(handle)
        loop_post(&self.r, message(IN_STOP, 0))
        with nogil:
            loop_join(&self.r)
        self.running = False

    # -- sessions and connections -------------------------------------------------------------------------------------

    def add_session(self, *, uint32_t exp_cmd_sn, uint32_t max_cmd_window=128, bint initial_r2t=True,
                    bint immediate_data=True, uint32_t first_burst_length=65536, uint32_t max_burst_length=262144,
                    uint32_t max_outstanding_r2t=1, uint32_t tsih=0, uint32_t error_recovery_level=0):
        cdef lnt_session *s
        cdef lnt_inbox *m
        if not self.free_sessions:
            raise OSError("too many sessions")
        if max_burst_length < 512 or max_outstanding_r2t < 1 or max_cmd_window < 1:
            raise ValueError("max_burst_length, max_outstanding_r2t or max_cmd_window is too small")
        m = message(IN_SESSION, 0)
        s = <lnt_session *>calloc(1, sizeof(lnt_session))
        if s == NULL:
            free(m)
            raise MemoryError
        self.generation += 1
        s.handle = handle_of(self.free_sessions.pop(), self.generation)
        s.exp_cmd_sn = exp_cmd_sn
        s.window = max_cmd_window
        s.max_cmd_sn = exp_cmd_sn + max_cmd_window - 1
        s.first_burst = first_burst_length
        s.max_burst = max_burst_length
        s.max_r2t = 1 if error_recovery_level else max_outstanding_r2t      # a recovery R2T is the only one
        s.recovery = <uint8_t>error_recovery_level
        s.initial_r2t = initial_r2t
        s.immediate_data = immediate_data
        self.sessions[s.handle] = <uintptr_t>s
        m.object = s
        loop_post(&self.r, m)
        return s.handle

    def session_numbers(self, uint64_t session):
        # Two plain reads of words that only the thread writes: old by a command or so, never torn.
        cdef lnt_session *s = <lnt_session *><uintptr_t>self.sessions[session]
        return s.exp_cmd_sn, s.max_cmd_sn

    def remove_session(self, uint64_t session):
        cdef lnt_inbox *m
        pointer = self.sessions.pop(session, None)
        if pointer is None:
            return
        m = message(IN_SESSION_REMOVE, 0)
        m.object = <void *><uintptr_t>pointer
        loop_post(&self.r, m)

    def add_connection(self, uint64_t session, int fd, *, uint32_t cid, uint32_t stat_sn, bytes leftover=b"",
                       bint header_digest=False, bint data_digest=False, uint32_t max_send_data_segment_length=8192,
                       uint32_t max_recv_data_segment_length=262144, double nop_interval_s=0.0,
                       double nop_timeout_s=5.0):
        cdef lnt_conn *c
        cdef lnt_inbox *m
        cdef uint32_t index
        pointer = self.sessions[session]
        if not self.free_conns:
            raise OSError("too many connections")
        if max_send_data_segment_length < 512 or max_recv_data_segment_length < 512:
            raise ValueError("a MaxRecvDataSegmentLength is at least 512")
        m = message(IN_CONN, <uint32_t>len(leftover))
        c = <lnt_conn *>calloc(1, sizeof(lnt_conn))
        if c == NULL:
            free(m)
            raise MemoryError
        index = self.free_conns.pop()
        self.generation += 1
        c.handle = handle_of(index, self.generation)
        c.session = <lnt_session *><uintptr_t>pointer
        c.fd = fd
        c.file = index + 1
        c.cid = cid
        c.state = C_OPEN
        c.header_digest = header_digest
        c.data_digest = data_digest
        c.stat_sn = stat_sn
        c.exp_stat_sn = stat_sn
        c.recovery = c.session.recovery
        c.max_send = max_send_data_segment_length
        c.max_recv = max_recv_data_segment_length
        c.nop_interval_us = <uint64_t>(nop_interval_s * 1e6)
        c.nop_timeout_us = <uint64_t>(nop_timeout_s * 1e6)
        self.conns[c.handle] = <uintptr_t>c
        m.object = c
        memcpy(<uint8_t *>(m + 1), PyBytes_AS_STRING(leftover), len(leftover))
        loop_post(&self.r, m)
        return c.handle

    def set_max_send(self, uint64_t conn, uint32_t length):
        cdef lnt_inbox *m
        if length < 512:
            raise ValueError("a MaxRecvDataSegmentLength is at least 512")
        m = message(IN_MAX_SEND, 0)
        m.handle = conn
        m.number = length
        loop_post(&self.r, m)

    def close_connection(self, uint64_t conn):
        cdef lnt_inbox *m = message(IN_CONN_CLOSE, 0)
        m.handle = conn
        loop_post(&self.r, m)

    # -- LUNs ---------------------------------------------------------------------------------------------------------

    cdef void drop_lun(self, object key) except *:
        cdef lnt_inbox *m
        pointer = self.luns.pop(key, None)
        if pointer is None:
            return
        self.leaving[pointer] = key
        m = message(IN_LUN_REMOVE, 0)
        m.object = <void *><uintptr_t>pointer
        loop_post(&self.r, m)

    def set_lun(self, uint64_t session, uint32_t lun, object_id, uint32_t flags=0):
        cdef lnt_lun *entry
        cdef lnt_inbox *m
        pointer = self.sessions.get(session)
        if pointer is None or lun > 16383:
            return False
        if object_id is None:
            self.drop_lun((session, lun))
            return True
        m = message(IN_LUN, 0)
        entry = <lnt_lun *>calloc(1, sizeof(lnt_lun))
        if entry == NULL:
            free(m)
            raise MemoryError
        entry.obj = self.pool.open_handle(object_id)
        if entry.obj == NULL:
            free(entry)
            free(m)
            return False
        self.drop_lun((session, lun))
        entry.session = <lnt_session *><uintptr_t>pointer
        entry.object_id = object_id
        entry.number = lun
        entry.flags = flags
        self.luns[(session, lun)] = <uintptr_t>entry
        m.object = entry
        loop_post(&self.r, m)
        return True

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
        self.pool.close_handle(lun.obj)
        free(lun)

    # -- events -------------------------------------------------------------------------------------------------------

    def events(self):
        cdef lnt_event *e
        cdef lnt_event *following
        cdef uint64_t count
        cdef list out = []
        read(self.event_fd, &count, 8)
        with nogil:
            pthread_mutex_lock(&self.r.mutex)
        e = self.r.event_head
        self.r.event_head = NULL
        self.r.event_tail = NULL
        pthread_mutex_unlock(&self.r.mutex)
        while e != NULL:
            following = e.next
            event = self.translate(e)
            if event is not None:
                out.append(event)
            free(e)
            e = following
        return out

    cdef object translate(self, lnt_event *e):
        if e.kind == EV_COMMAND:
            return CommandEvent(
                e.task, e.session, e.conn, lun_number(e.bhs + 8), e.itt, cdb_of(e),
                PyBytes_FromStringAndSize(<const char *>(e + 1), e.length), e.edtl, e.bhs[1], e.bhs[:48])
        if e.kind == EV_PDU:
            lnt_sub32(&(<lnt_conn *>e.object).pending_events, 1, RELEASE)
            return PduEvent(e.session, e.conn, e.bhs[0] & OPCODE_MASK, e.bhs[:48],
                            PyBytes_FromStringAndSize(<const char *>(e + 1), e.length))
        if e.kind == EV_CLOSED:
            return ClosedEvent(e.session, e.conn, CLOSE_REASONS[e.reason], e.detail.decode())
        if e.kind == EV_ABORTED:
            victims = array("Q", PyBytes_FromStringAndSize(<const char *>(e + 1), e.length))
            return AbortedEvent(e.token, e.count, tuple(zip(victims[::2], victims[1::2], strict=True)))
        if e.kind == EV_LUN_RELEASED:
            return self.on_lun_released(<lnt_lun *>e.object)
        if e.kind == EV_SESSION_CLOSED:
            return self.on_session_closed(<lnt_session *>e.object)
        if e.kind == EV_CONN_FREED:
            self.conns.pop(e.conn, None)
            self.free_conns.append((e.conn & 0xffffff) - 1)
            free(e.object)
        return None

    cdef object on_lun_released(self, lnt_lun *lun):
        event = LunReleasedEvent(lun.session.handle, lun.number, lun.object_id)
        self.leaving.pop(<uintptr_t>lun, None)
        self.free_lun(lun)
        return event

    cdef object on_session_closed(self, lnt_session *s):
        cdef uint64_t handle = s.handle
        for key in [k for k in self.luns if k[0] == handle]:
            self.free_lun(<lnt_lun *><uintptr_t>self.luns.pop(key))
        self.free_sessions.append((handle & 0xffffff) - 1)
        free(s)
        return SessionClosedEvent(handle)

    # -- answers ------------------------------------------------------------------------------------------------------

    def complete(self, uint64_t task, uint8_t status, bytes sense=b"", data_in=b"", *, data_out_length=None,
                 uint8_t response=0):
        cdef Py_buffer view
        cdef lnt_inbox *m
        if len(sense) > 252:
            raise ValueError("sense data has at most 252 bytes")
        PyObject_GetBuffer(data_in, &view, PyBUF_SIMPLE)
        try:
            m = message(IN_COMPLETE, <uint32_t>view.len)
            if view.len:
                memcpy(<uint8_t *>(m + 1), view.buf, view.len)
        finally:
            PyBuffer_Release(&view)
        m.handle = task
        m.status = status
        m.response = response
        m.out_length = -1 if data_out_length is None else min(data_out_length, 0x7fffffff)
        m.sense_length = <uint32_t>len(sense)
        memcpy(m.sense, PyBytes_AS_STRING(sense), len(sense))
        loop_post(&self.r, m)

    def send_pdu(self, uint64_t conn, bytes bhs, bytes data=b"", *, bint close=False):
        cdef lnt_inbox *m
        if len(bhs) != 48:
            raise ValueError("a BHS has 48 bytes")
        m = message(IN_SEND, <uint32_t>len(data))
        m.handle = conn
        m.close = close
        memcpy(m.bhs, PyBytes_AS_STRING(bhs), 48)
        memcpy(<uint8_t *>(m + 1), PyBytes_AS_STRING(data), len(data))
        loop_post(&self.r, m)

    def abort(self, uint64_t token, *, session=None, lun=None, itt=None, object_id=None, conn=None,
              before_cmd_sn=None, exclude_session=None, bint query=False, bint device=False, missing_cmd_sn=None,
              bint tell=False):
        cdef lnt_inbox *m = message(IN_ABORT, 0)
        cdef lnt_abort *a = <lnt_abort *>calloc(1, sizeof(lnt_abort))
        if a == NULL:
            free(m)
            raise MemoryError
        a.token = token
        a.session = session or 0
        a.conn = conn or 0
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
        loop_post(&self.r, m)

    # -- figures ------------------------------------------------------------------------------------------------------

    def stats(self):
        cdef lnt_conn *c
        conns, luns = [], []
        objects = {k: {"session": 0, "lun": -1, "object_id": k, **v} for k, v in self.totals.items()}
        for pointer in self.conns.values():
            c = <lnt_conn *><uintptr_t>pointer
            conns.append({"session": c.session.handle, "conn": c.handle, "cid": c.cid, "rx_bytes": c.rx_bytes,
                          "tx_bytes": c.tx_bytes, "rx_pdus": c.rx_pdus, "tx_pdus": c.tx_pdus, "tasks": c.task_count,
                          "digest_errors": c.digest_errors, "rejects": c.rejects, "snacks": c.snacks, "resent": c.resent,
                          "recovery_r2ts": c.recovery_r2ts, "kept": c.kept_count, "kept_bytes": c.kept_bytes})
        for pointer in [*self.luns.values(), *self.leaving]:
            one = lun_stats(<lnt_lun *><uintptr_t>pointer)
            luns.append(one)
            total = objects.setdefault(one["object_id"], {"session": 0, "lun": -1, "object_id": one["object_id"],
                                                          **dict.fromkeys(COUNTERS, 0)})
            for name in COUNTERS:
                total[name] += one[name]
        return {"connections": conns, "luns": luns, "objects": list(objects.values()), "loop": self.loop_stats()}

    cdef dict loop_stats(self):
        return {"turns": self.r.turns, "wakeups": self.r.wakeups, "gathers": self.r.gathers,
                "cqes": self.r.cqes, "sends": self.r.sends,
                "async_sends": self.r.async_sends, "direct_recvs": self.r.direct_recvs, "starved": self.r.starved,
                "pauses": self.r.pauses,
                "device_reads": self.r.disk.reads, "device_writes": self.r.disk.writes,
                "device_syncs": self.r.disk.syncs, "device_read_bytes": self.r.disk.read_bytes,
                "device_write_bytes": self.r.disk.write_bytes, "device_in_flight": self.r.disk.in_flight,
                "inline_io": self.r.disk.inline_io, "throttled": self.r.disk.throttled,
                "mapped_bytes": self.r.disk.map_bytes, "buffer_bytes": self.r.buffers.used,
                "buffer_cached_bytes": self.r.buffers.cached, "tasks": self.r.live_tasks,
                "connections": len(self.conns), "sessions": len(self.sessions)}
