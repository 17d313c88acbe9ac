# A load generator: many logged-in iSCSI sessions driven by one native epoll loop (RFC 7143 §11), cheaper than what it measures.
# cython: boundscheck=False
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy, memmove, memset
from posix.types cimport time_t

cdef extern from "base/crc32c.h" nogil:
    uint32_t lnt_crc32c(uint32_t seed, const void *buf, size_t n)

cdef extern from "<sys/epoll.h>" nogil:
    ctypedef union epoll_data_t:
        void *ptr
    cdef struct epoll_event:
        uint32_t events
        epoll_data_t data
    int epoll_create1(int flags)
    int epoll_ctl(int epfd, int op, int fd, epoll_event *event)
    int epoll_wait(int epfd, epoll_event *events, int n, int timeout_ms)
    enum:
        EPOLLIN
        EPOLLOUT
        EPOLL_CTL_ADD
        EPOLL_CTL_MOD

cdef extern from "<sys/socket.h>" nogil:
    ssize_t recv(int fd, void *buf, size_t n, int flags)
    ssize_t send(int fd, const void *buf, size_t n, int flags)
    enum:
        MSG_DONTWAIT
        MSG_NOSIGNAL
        MSG_TRUNC

cdef extern from "<arpa/inet.h>" nogil:
    uint32_t htonl(uint32_t v)
    uint32_t ntohl(uint32_t v)
    uint16_t htons(uint16_t v)

cdef extern from "<time.h>" nogil:
    cdef struct timespec:
        time_t tv_sec
        long tv_nsec
    int clock_gettime(int clock, timespec *ts)
    enum:
        CLOCK_MONOTONIC

cdef extern from "<unistd.h>" nogil:
    int close(int fd)

cdef enum:
    BHS = 48
    RX_BYTES = 1 << 21
    CELLS = 64 * 32           # latency histogram: 32 powers of two of 64 steps, in units of 1 us / 8
    DRAIN_NS = 5000000000

cdef struct slot_t:
    uint64_t started_ns
    uint64_t lun
    uint8_t busy

cdef struct conn_t:
    int fd
    int error                 # why it was given up: 1 closed, 2 protocol, 3 digest
    int inflight
    int want_out
    uint32_t cmd_sn
    uint32_t max_cmd_sn
    uint32_t stat_sn
    uint64_t cursor           # next block of sequential access
    uint64_t ops
    uint64_t failed
    uint64_t begun            # commands started
    slot_t *slots
    int free_count
    int *free_slots
    uint8_t *rx
    size_t rx_have
    uint8_t *tx
    size_t tx_have
    size_t tx_sent
    size_t tx_room

cdef struct load_t:
    int depth
    int write                 # percent of commands that write
    int random
    int header_digest
    int data_digest
    int discard               # answers are counted and thrown away in the kernel, unseen
    uint64_t most             # commands to start on a session, 0: until the deadline
    uint32_t block_bytes      # of one command
    uint32_t sector_bytes
    uint64_t sectors          # of one LUN
    uint32_t immediate_bytes
    uint32_t max_send_bytes   # of one data segment
    int luns
    const uint64_t *lun_field  # 8-byte LUN fields of every LUN, luns of them a session
    uint8_t *payload
    uint32_t payload_crc      # of one whole block
    uint64_t random_state
    uint64_t deadline_ns
    uint32_t *cells


cdef inline uint64_t now_ns() noexcept nogil:
    cdef timespec ts
    clock_gettime(CLOCK_MONOTONIC, &ts)
    return <uint64_t>ts.tv_sec * 1000000000 + <uint64_t>ts.tv_nsec


cdef inline uint32_t get32(const uint8_t *p) noexcept nogil:
    cdef uint32_t v
    memcpy(&v, p, 4)
    return ntohl(v)


cdef inline void put32(uint8_t *p, uint32_t v) noexcept nogil:
    v = htonl(v)
    memcpy(p, &v, 4)


cdef inline uint64_t draw(load_t *load) noexcept nogil:
    cdef uint64_t x = load.random_state
    x ^= x << 13
    x ^= x >> 7
    x ^= x << 17
    load.random_state = x
    return x


cdef inline void count_latency(load_t *load, uint64_t ns) noexcept nogil:
    # cell = position in a log-linear scale: exact to 1/64 of the value
    cdef uint64_t v = ns >> 7
    cdef int power = 0
    while v >> power >= 128:
        power += 1
    cdef uint64_t cell = v if power == 0 else <uint64_t>(power * 64) + (v >> power)
    load.cells[cell if cell < CELLS else CELLS - 1] += 1


cdef uint8_t *begin_pdu(load_t *load, conn_t *c, uint32_t data_bytes) noexcept nogil:
    # Room for a PDU in the send buffer, its header zeroed; the caller fills it and calls end_pdu.
    cdef size_t need = BHS + 4 + ((data_bytes + 3) & ~3u) + 4
    if c.tx_have + need > c.tx_room and c.tx_sent:
        memmove(c.tx, c.tx + c.tx_sent, c.tx_have - c.tx_sent)
        c.tx_have -= c.tx_sent
        c.tx_sent = 0
    if c.tx_have + need > c.tx_room:
        return NULL
    cdef uint8_t *pdu = c.tx + c.tx_have
    memset(pdu, 0, BHS)
    return pdu


cdef void end_pdu(load_t *load, conn_t *c, uint8_t *pdu, uint32_t data_bytes) noexcept nogil:
    cdef uint8_t *p = pdu + BHS
    cdef uint32_t crc
    pdu[5] = <uint8_t>(data_bytes >> 16)
    pdu[6] = <uint8_t>(data_bytes >> 8)
    pdu[7] = <uint8_t>data_bytes
    if load.header_digest:
        crc = lnt_crc32c(0, pdu, BHS)
        memcpy(p, &crc, 4)
        p += 4
    if data_bytes:
        memcpy(p, load.payload, data_bytes)
        p += data_bytes          # block sizes are multiples of 4: no padding
        if load.data_digest:
            crc = load.payload_crc if data_bytes == load.block_bytes else lnt_crc32c(0, load.payload, data_bytes)
            memcpy(p, &crc, 4)
            p += 4
    c.tx_have = <size_t>(p - c.tx)


cdef int start_command(load_t *load, conn_t *c, const uint64_t *luns, uint64_t now) noexcept nogil:
    # One READ(10) or WRITE(10), immediate data as far as it goes. 0: not now (window, buffer).
    cdef uint64_t blocks = load.sectors * load.sector_bytes // load.block_bytes, block
    cdef uint32_t sectors = load.block_bytes // load.sector_bytes
    cdef int write = load.write and (load.write == 100 or <int>(draw(load) % 100) < load.write)
    cdef uint32_t immediate = load.immediate_bytes if write else 0
    cdef uint32_t itt
    if c.free_count == 0 or <int32_t>(c.max_cmd_sn - c.cmd_sn) < 0 or (load.most and c.begun == load.most):
        return 0
    cdef uint8_t *pdu = begin_pdu(load, c, immediate)
    if pdu == NULL:
        return 0
    if load.random:
        block = draw(load) % blocks
    else:
        block = c.cursor
        c.cursor = (c.cursor + 1) % blocks
    c.free_count -= 1
    c.begun += 1
    cdef slot_t *slot = &c.slots[c.free_slots[c.free_count]]
    itt = c.cmd_sn & 0x7fffffff if load.discard else <uint32_t>c.free_slots[c.free_count]
    slot.busy = 1
    slot.started_ns = now
    slot.lun = luns[draw(load) % <uint64_t>load.luns] if load.luns > 1 else luns[0]
    pdu[0] = 0x01
    pdu[1] = 0x80 | (0x20 if write else 0x40) | 0x01
    memcpy(pdu + 8, &slot.lun, 8)
    put32(pdu + 16, itt)
    put32(pdu + 20, load.block_bytes)
    put32(pdu + 24, c.cmd_sn)
    put32(pdu + 28, c.stat_sn)
    pdu[32] = 0x2a if write else 0x28
    put32(pdu + 34, <uint32_t>(block * sectors))
    pdu[39] = <uint8_t>(sectors >> 8)
    pdu[40] = <uint8_t>sectors
    c.cmd_sn += 1
    c.inflight += 1
    end_pdu(load, c, pdu, immediate)
    return 1


cdef int send_data_out(load_t *load, conn_t *c, const uint8_t *r2t) noexcept nogil:
    cdef uint32_t itt = get32(r2t + 16), offset = get32(r2t + 40), left = get32(r2t + 44), data_sn = 0, step
    cdef uint8_t *pdu
    if itt >= <uint32_t>load.depth or offset + left > load.block_bytes:
        return 2
    while left:
        step = left if left < load.max_send_bytes else load.max_send_bytes
        pdu = begin_pdu(load, c, step)
        if pdu == NULL:
            return 2
        pdu[0] = 0x05
        pdu[1] = 0x80 if step == left else 0
        memcpy(pdu + 8, &c.slots[itt].lun, 8)
        put32(pdu + 16, itt)
        memcpy(pdu + 20, r2t + 20, 4)
        put32(pdu + 28, c.stat_sn)
        put32(pdu + 36, data_sn)
        put32(pdu + 40, offset)
        end_pdu(load, c, pdu, step)
        offset += step
        left -= step
        data_sn += 1
    return 0


cdef int finish(load_t *load, conn_t *c, const uint8_t *pdu, uint64_t now) noexcept nogil:
    cdef uint32_t itt = get32(pdu + 16)
    if itt >= <uint32_t>load.depth or not c.slots[itt].busy:
        return 2
    c.slots[itt].busy = 0
    c.free_slots[c.free_count] = <int>itt
    c.free_count += 1
    c.inflight -= 1
    if pdu[3] or (pdu[0] == 0x21 and pdu[2]):
        c.failed += 1
    elif now < load.deadline_ns:
        c.ops += 1
        count_latency(load, now - c.slots[itt].started_ns)
    return 0


cdef int answer_nop(load_t *load, conn_t *c, const uint8_t *nop) noexcept nogil:
    cdef uint8_t *pdu
    if get32(nop + 20) == <uint32_t>0xffffffff:
        return 0
    pdu = begin_pdu(load, c, 0)
    if pdu == NULL:
        return 2
    pdu[0] = 0x40
    pdu[1] = 0x80
    memcpy(pdu + 8, nop + 8, 8)
    put32(pdu + 16, <uint32_t>0xffffffff)
    memcpy(pdu + 20, nop + 20, 4)
    put32(pdu + 24, c.cmd_sn)
    put32(pdu + 28, c.stat_sn)
    end_pdu(load, c, pdu, 0)
    return 0


cdef int take_pdu(load_t *load, conn_t *c, const uint8_t *pdu, uint64_t now) noexcept nogil:
    cdef uint8_t opcode = pdu[0] & 0x3f
    cdef uint32_t max_cmd_sn = get32(pdu + 32)
    if <int32_t>(max_cmd_sn - c.max_cmd_sn) > 0:
        c.max_cmd_sn = max_cmd_sn
    if opcode == 0x21 or (opcode == 0x25 and pdu[1] & 1):
        c.stat_sn = get32(pdu + 24) + 1
        return finish(load, c, pdu, now)
    if opcode == 0x25:
        return 0
    if opcode == 0x31:
        return send_data_out(load, c, pdu)
    if opcode == 0x20:
        return answer_nop(load, c, pdu)
    return 2


cdef int take_bytes(load_t *load, conn_t *c, uint64_t now) noexcept nogil:
    # Every whole PDU of the receive buffer. 0, or the reason to give the connection up.
    cdef size_t at = 0, head = BHS + (4 if load.header_digest else 0), length, whole
    cdef const uint8_t *pdu
    cdef uint32_t crc
    cdef int problem = 0
    while c.rx_have - at >= head:
        pdu = c.rx + at
        length = (<size_t>pdu[5] << 16) | (<size_t>pdu[6] << 8) | pdu[7]
        whole = head + ((length + 3) & ~<size_t>3) + (4 if length and load.data_digest else 0)
        if pdu[4] or whole > RX_BYTES:
            return 2
        if c.rx_have - at < whole:
            break
        if load.header_digest:
            crc = lnt_crc32c(0, pdu, BHS)
            if (<const uint32_t *>(pdu + BHS))[0] != crc:
                return 3
        if length and load.data_digest:
            crc = lnt_crc32c(0, pdu + head, (length + 3) & ~<size_t>3)
            if (<const uint32_t *>(pdu + whole - 4))[0] != crc:
                return 3
        problem = take_pdu(load, c, pdu, now)
        if problem:
            return problem
        at += whole
    memmove(c.rx, c.rx + at, c.rx_have - at)
    c.rx_have -= at
    return 0


cdef int discard_bytes(load_t *load, conn_t *c, uint64_t now) noexcept nogil:
    # Without a copy: every answer is one Data-In with status and of known length, so bytes tell how many came.
    # Tags are CmdSNs here, so it does not matter which. A peer that answers otherwise leaves a remainder in the end.
    cdef size_t whole = BHS + load.block_bytes
    cdef ssize_t n = recv(c.fd, NULL, RX_BYTES, MSG_DONTWAIT | MSG_TRUNC)
    cdef int answered
    if n == 0 or (n < 0 and errno != EAGAIN and errno != EINTR):
        return 1
    if n > 0:
        c.rx_have += <size_t>n
        answered = <int>(c.rx_have // whole)
        c.rx_have %= whole
        if answered > c.inflight:
            return 2
        c.inflight -= answered
        c.free_count += answered
        c.max_cmd_sn += <uint32_t>answered
        c.stat_sn += <uint32_t>answered
        if now < load.deadline_ns:
            c.ops += <uint64_t>answered
    return 0


cdef int pump(load_t *load, conn_t *c, int readable, const uint64_t *luns, uint64_t now) noexcept nogil:
    # Receive once, take what came, start what fits, send once.
    cdef ssize_t n
    cdef int problem
    if readable and load.discard:
        problem = discard_bytes(load, c, now)
        if problem:
            return problem
    elif readable:
        n = recv(c.fd, c.rx + c.rx_have, RX_BYTES - c.rx_have, MSG_DONTWAIT)
        if n == 0 or (n < 0 and errno != EAGAIN and errno != EINTR):
            return 1
        if n > 0:
            c.rx_have += <size_t>n
            problem = take_bytes(load, c, now)
            if problem:
                return problem
    if now < load.deadline_ns:
        while start_command(load, c, luns, now):
            pass
    if c.tx_have > c.tx_sent:
        n = send(c.fd, c.tx + c.tx_sent, c.tx_have - c.tx_sent, MSG_DONTWAIT | MSG_NOSIGNAL)
        if n < 0 and errno != EAGAIN and errno != EINTR:
            return 1
        if n > 0:
            c.tx_sent += <size_t>n
        if c.tx_sent == c.tx_have:
            c.tx_sent = 0
            c.tx_have = 0
    return 0


cdef void loop(load_t *load, conn_t *conns, int count, int epoll) noexcept nogil:
    cdef epoll_event events[64]
    cdef epoll_event event
    cdef conn_t *c
    cdef int i, n, ready, inflight = 1
    cdef uint64_t now = now_ns()
    for i in range(count):
        conns[i].error = pump(load, &conns[i], 0, load.lun_field + i * load.luns, now)
    while inflight and now < load.deadline_ns + DRAIN_NS:
        ready = epoll_wait(epoll, events, 64, 100)
        now = now_ns()
        for n in range(ready):
            c = <conn_t *>events[n].data.ptr
            if c.error:
                continue
            c.error = pump(load, c, 1, load.lun_field + (c - conns) * load.luns, now)
            if c.error:
                epoll_ctl(epoll, 2, c.fd, &event)
                c.inflight = 0
            elif (c.tx_have > c.tx_sent) != c.want_out:
                c.want_out = c.tx_have > c.tx_sent
                event.events = <uint32_t>EPOLLIN | (<uint32_t>EPOLLOUT if c.want_out else 0)
                event.data.ptr = c
                epoll_ctl(epoll, EPOLL_CTL_MOD, c.fd, &event)
        if now >= load.deadline_ns or ready <= 0 or load.most:
            inflight = 0
            for i in range(count):
                inflight += conns[i].inflight
    for i in range(count):
        if load.discard and not conns[i].error and (conns[i].rx_have or conns[i].inflight):
            conns[i].error = 2


def drive(list sessions, *, int depth, int write_percent, bint random, int block_bytes, int sector_bytes,
          long long sectors, int luns, bytes lun_fields, int immediate_bytes, int max_send_bytes,
          bint header_digest, bint data_digest, double seconds, long long seed, unsigned long long most=0,
          bint discard=False):
    """Drive sessions [(fd, next CmdSN, MaxCmdSN, next ExpStatSN), ...] for `seconds`, `depth` commands in flight on each.

    lun_fields: the 8-byte LUN fields, `luns` of them for each session in turn. most: end after so many commands on each
    session. discard: READs of one Data-In each, whose bytes the kernel throws away; no latencies.
    Returns ([(ops, failed, error), ...], latency cells, sessions as they stand now); error 1: closed by the peer,
    2: protocol, 3: digest. Cell i stands for `cell_us(i)` microseconds.
    """
    cdef int count = len(sessions), i, k, epoll
    cdef load_t load
    cdef epoll_event event
    if depth < 1 or block_bytes < sector_bytes or block_bytes % sector_bytes or block_bytes % 4 or max_send_bytes % 4:
        raise ValueError("depth, block_bytes, sector_bytes or max_send_bytes")
    if len(lun_fields) != 8 * luns * count or sectors * sector_bytes < block_bytes or immediate_bytes > block_bytes:
        raise ValueError("lun_fields, sectors or immediate_bytes")
    if discard and (write_percent or header_digest or data_digest):
        raise ValueError("discarding is for READs without digests")
    memset(&load, 0, sizeof(load))
    load.depth, load.write, load.random = depth, write_percent, random
    load.header_digest, load.data_digest = header_digest, data_digest
    load.discard, load.most = discard, most
    load.block_bytes, load.sector_bytes, load.sectors = block_bytes, sector_bytes, sectors
    load.immediate_bytes, load.max_send_bytes, load.luns = immediate_bytes, max_send_bytes, luns
    load.lun_field = <const uint64_t *><const char *>lun_fields
    load.random_state = <uint64_t>seed | 1
    load.cells = <uint32_t *>calloc(CELLS, 4)
    load.payload = <uint8_t *>malloc(block_bytes)
    cdef conn_t *conns = <conn_t *>calloc(count, sizeof(conn_t))
    cdef size_t room = <size_t>depth * (block_bytes + 64) + (block_bytes // max_send_bytes + 2) * 64 + 65536
    epoll = epoll_create1(0)
    try:
        for i in range(block_bytes):
            load.payload[i] = <uint8_t>(draw(&load) >> 32)
        load.payload_crc = lnt_crc32c(0, load.payload, block_bytes)
        for i in range(count):
            conns[i].fd, conns[i].cmd_sn, conns[i].max_cmd_sn, conns[i].stat_sn = sessions[i]
            conns[i].slots = <slot_t *>calloc(depth, sizeof(slot_t))
            conns[i].free_slots = <int *>malloc(depth * sizeof(int))
            for k in range(depth):
                conns[i].free_slots[k] = depth - 1 - k
            conns[i].free_count = depth
            conns[i].rx = <uint8_t *>malloc(RX_BYTES)
            conns[i].tx = <uint8_t *>malloc(room)
            conns[i].tx_room = room
            conns[i].cursor = <uint64_t>(i * 977) % (sectors * sector_bytes // block_bytes)
            event.events = EPOLLIN
            event.data.ptr = &conns[i]
            epoll_ctl(epoll, EPOLL_CTL_ADD, conns[i].fd, &event)
        load.deadline_ns = now_ns() + <uint64_t>(seconds * 1e9)
        with nogil:
            loop(&load, conns, count, epoll)
        return ([(conns[i].ops, conns[i].failed, conns[i].error) for i in range(count)],
                [load.cells[i] for i in range(CELLS)],
                [(conns[i].fd, conns[i].cmd_sn, conns[i].max_cmd_sn, conns[i].stat_sn) for i in range(count)])
    finally:
        close(epoll)
        for i in range(count):
            free(conns[i].slots)
            free(conns[i].free_slots)
            free(conns[i].rx)
            free(conns[i].tx)
        free(conns)
        free(load.cells)
        free(load.payload)


def cell_us(int cell):
    """The latency in microseconds that a histogram cell stands for (its lower end)."""
    if cell < 128:
        return cell * 0.128
    power = cell // 64 - 1
    return ((cell - power * 64) << power) * 0.128
