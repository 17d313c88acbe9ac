"""Connections that are silent are pinged, and those that do not answer are closed (NOP-In, RFC 7143 §11.19).

Lives here and nowhere else: `lnt_connection.keepalive` and the reactor's next deadline for it.
"""
from core.wire.connection cimport connection_close
from core.wire.nexus cimport CLOSE_KEEPALIVE, CONNECTION_OPEN
from core.wire.pdu cimport BHS_BYTES, TAG_NONE, bhs_nop_in
from core.wire.send cimport send_pdu
from libc.stdint cimport uint32_t, uint64_t, uint8_t

cdef uint64_t FOREVER = <uint64_t>-1


cdef void keepalive_answered(lnt_reactor *r, lnt_connection *c) noexcept nogil:
    c.keepalive.sent_us = 0
    r.keepalive_us = 0          # its next ping may be due before the answer would have been


cdef void keepalive_turn(lnt_reactor *r) noexcept nogil:
    # Pings connections that were silent for their interval, closes those that did not answer, finds the next deadline.
    cdef lnt_connection *c = r.connections
    cdef uint64_t due
    cdef uint64_t next_us = FOREVER
    cdef uint8_t h[BHS_BYTES]
    cdef uint8_t lun[8]
    cdef int i
    for i in range(8):
        lun[i] = 0
    while c != NULL:
        if c.state == CONNECTION_OPEN and c.keepalive.interval_us:
            if c.keepalive.sent_us and c.last_heard_us > c.keepalive.sent_us:
                c.keepalive.sent_us = 0                        # anything it sends proves that it lives
            if c.keepalive.sent_us:
                due = c.keepalive.sent_us + c.keepalive.timeout_us
                if r.now_us >= due:
                    connection_close(r, c, CLOSE_KEEPALIVE, "NOP-In was not answered")
                    c = c.next
                    continue
            else:
                due = c.last_heard_us + c.keepalive.interval_us
                if r.now_us >= due:
                    r.nop_count += 1
                    c.keepalive.ttt = r.nop_count & 0x7fffffff
                    c.keepalive.sent_us = r.now_us
                    bhs_nop_in(h, lun, <uint32_t>TAG_NONE, c.keepalive.ttt, 0)
                    send_pdu(r, c, h, NULL, 0, NULL, False)
                    due = r.now_us + c.keepalive.timeout_us
            if due < next_us:
                next_us = due
        c = c.next
    r.keepalive_us = next_us
