# The system calls of fio's libiscsi engine and nothing else, against answers that cost nothing: what bounds every target.
# cython: boundscheck=False
from libc.errno cimport EAGAIN, EINTR, errno
from libc.limits cimport ULLONG_MAX
from libc.stdint cimport uint8_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset
from posix.types cimport time_t

cdef extern from "<poll.h>" nogil:
    cdef struct pollfd:
        int fd
        short events
        short revents
    int poll(pollfd *fds, unsigned long n, int timeout_ms)
    enum:
        POLLIN
        POLLOUT

cdef extern from "<sys/socket.h>" nogil:
    ssize_t recv(int fd, void *buf, size_t n, int flags)
    ssize_t send(int fd, const void *buf, size_t n, int flags)
    enum:
        MSG_DONTWAIT
        MSG_NOSIGNAL

cdef extern from "<sys/uio.h>" nogil:
    cdef struct iovec:
        void *iov_base
        size_t iov_len
    ssize_t readv(int fd, const iovec *parts, int count)
    ssize_t writev(int fd, const iovec *parts, int count)

cdef extern from "<sys/prctl.h>" nogil:
    int prctl(int option, unsigned long value)
    enum:
        PR_SET_TIMERSLACK

cdef extern from "<time.h>" nogil:
    cdef struct timespec:
        time_t tv_sec
        long tv_nsec
    int clock_gettime(int clock, timespec *ts)
    int nanosleep(const timespec *wanted, timespec *left)
    enum:
        CLOCK_MONOTONIC

cdef enum:
    BHS = 48
    BLOCK_BYTES = 4096
    RX_BYTES = 1 << 20
    TX_BYTES = 64 * (BHS + BLOCK_BYTES)
    TIMER_SLACK_NS = 1000

cdef struct bare_t:
    int fd
    int depth
    size_t command_bytes
    size_t answer_bytes
    int outstanding           # sent, not answered
    int queued                # to be sent
    size_t sent               # bytes of the command being sent
    size_t got                # bytes of the answer being received
    uint64_t begun
    uint64_t done
    uint64_t most             # commands to start
    uint8_t header[BHS]
    uint8_t *data             # a block for each command under way


cdef inline uint64_t now_ns() noexcept nogil:
    cdef timespec ts
    clock_gettime(CLOCK_MONOTONIC, &ts)
    return <uint64_t>ts.tv_sec * 1000000000 + <uint64_t>ts.tv_nsec


cdef inline iovec rest(bare_t *b, uint64_t number, size_t at, size_t whole) noexcept nogil:
    # What is left of a PDU's data behind `at` bytes of it.
    cdef iovec part
    part.iov_base = b.data + number % <uint64_t>b.depth * BLOCK_BYTES + (at - BHS)
    part.iov_len = whole - at
    return part


cdef int receive(bare_t *b) noexcept nogil:
    # As iscsi_read_from_socket(): recv() of a header, readv() of data, until all is answered or one is not there in full.
    cdef ssize_t n
    cdef size_t end
    cdef iovec part
    while b.outstanding:
        end = BHS if b.got < BHS else b.answer_bytes
        if b.got < BHS:
            n = recv(b.fd, b.header + b.got, BHS - b.got, 0)
        else:
            part = rest(b, b.done, b.got, end)
            n = readv(b.fd, &part, 1)
        if n <= 0:
            return n < 0 and errno == EAGAIN
        b.got += <size_t>n
        if b.got < end:
            return 1
        if b.got == b.answer_bytes:
            b.got = 0
            b.outstanding -= 1
            b.done += 1
    return 1


cdef int transmit(bare_t *b) noexcept nogil:
    # As iscsi_write_to_socket(): send() of a header, then writev() of data, of all that is queued.
    cdef ssize_t n
    cdef iovec part
    while b.queued:
        if b.sent < BHS:
            n = send(b.fd, b.header + b.sent, BHS - b.sent, MSG_NOSIGNAL)
        else:
            part = rest(b, b.begun, b.sent, b.command_bytes)
            n = writev(b.fd, &part, 1)
        if n < 0:
            return errno == EAGAIN
        b.sent += <size_t>n
        if b.sent == b.command_bytes:
            b.sent = 0
            b.begun += 1
            b.queued -= 1
            b.outstanding += 1
    return 1


cdef int load(bare_t *b, uint64_t deadline_ns) noexcept nogil:
    # fio fills the queue, polls, and has libiscsi receive and then send; what was answered is queued again after that.
    cdef pollfd p
    p.fd = b.fd
    while True:
        if now_ns() >= deadline_ns:
            b.most = b.begun + (b.sent > 0)     # what is under way is answered yet: the connection can be used again
        b.queued = b.depth - b.outstanding
        if b.most - b.begun < <uint64_t>b.queued:
            b.queued = <int>(b.most - b.begun)
        if b.queued == 0 and b.outstanding == 0:
            return 1
        p.events = <short>(POLLIN | (POLLOUT if b.queued else 0))
        if poll(&p, 1, -1) < 0:
            if errno == EINTR:
                continue
            return 0
        if (p.revents & POLLIN and not receive(b)) or (p.revents & POLLOUT and not transmit(b)):
            return 0


def initiate(int fd, *, bint write, int depth, double seconds, unsigned long long most=ULLONG_MAX):
    """Keep `depth` commands of 4 KiB under way on a connected non-blocking TCP socket, as fio does.

    For `seconds` or until `most` are answered; how many were.
    """
    cdef bare_t b
    cdef int whole
    if depth < 1:
        raise ValueError("depth")
    memset(&b, 0, sizeof(b))
    b.fd, b.depth, b.most = fd, depth, most
    b.command_bytes = BHS + (BLOCK_BYTES if write else 0)
    b.answer_bytes = BHS + (0 if write else BLOCK_BYTES)
    b.data = <uint8_t *>malloc(<size_t>depth * BLOCK_BYTES)
    if b.data == NULL:
        raise MemoryError
    memset(b.data, 1, <size_t>depth * BLOCK_BYTES)      # pages of its own, as fio's buffers are
    cdef uint64_t deadline_ns = now_ns() + <uint64_t>(seconds * 1e9)
    with nogil:
        whole = load(&b, deadline_ns)
    free(b.data)
    if not whole:
        raise ConnectionError("the answering side is gone")
    return b.done


cdef void serve(int fd, size_t command_bytes, size_t answer_bytes, long pause_ns, uint8_t *rx, const uint8_t *tx) noexcept nogil:
    # Wake, pause, receive all there is, answer it at once; what the bytes are does not matter.
    cdef timespec pause
    cdef pollfd p
    cdef ssize_t n
    cdef size_t have = 0, left
    p.fd, p.events = fd, POLLIN
    pause.tv_sec, pause.tv_nsec = 0, pause_ns
    while True:
        poll(&p, 1, -1)
        if pause_ns:
            nanosleep(&pause, NULL)
        n = recv(fd, rx, RX_BYTES, MSG_DONTWAIT)
        if n < 0 and errno == EAGAIN:
            continue
        if n <= 0:
            return
        have += <size_t>n
        left = have // command_bytes * answer_bytes
        have %= command_bytes
        while left:
            n = send(fd, tx, left if left < TX_BYTES else TX_BYTES, MSG_NOSIGNAL)
            if n < 0:
                return
            left -= <size_t>n


def answer(int fd, *, bint write, int pause_us):
    """Answer what `initiate` sends on a connected blocking TCP socket until it is closed.

    pause_us: how long to let commands gather between waking and receiving.
    """
    cdef uint8_t *rx = <uint8_t *>malloc(RX_BYTES)
    cdef uint8_t *tx = <uint8_t *>malloc(TX_BYTES)
    if rx == NULL or tx == NULL:
        free(rx)
        free(tx)
        raise MemoryError
    memset(tx, 1, TX_BYTES)
    prctl(PR_SET_TIMERSLACK, TIMER_SLACK_NS)
    with nogil:
        serve(fd, BHS + (BLOCK_BYTES if write else 0), BHS + (0 if write else BLOCK_BYTES), pause_us * 1000, rx, tx)
    free(rx)
    free(tx)
