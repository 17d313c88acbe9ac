"""A relay: one TLS 1.3 connection of which both ends have shown a certificate, and a plain socket that says the same.

Lives here and nowhere else: the library's calls. A thread of its own carries bytes both ways without the GIL. A certificate is
taken from anyone: who may be on the other end is decided, by that certificate, between `handshake` and `run`.
"""
from core.base.memory cimport mem_new
from core.base.native cimport lnt_mono_us
from libc.stdint cimport uint64_t, uint8_t
from libc.stdlib cimport free

import os

cdef extern from "<errno.h>":
    int errno
    int EAGAIN
    int EINTR
    int ECANCELED
    int ETIMEDOUT
    int EPROTO
    int ECONNRESET
    int ENOMEM
    int ELIBACC
cdef extern from "<poll.h>" nogil:
    struct pollfd:
        int fd
        short events
        short revents
    int poll(pollfd *fds, unsigned long n, int timeout_ms)
    short POLLIN
    short POLLOUT
cdef extern from "<sys/socket.h>" nogil:
    ssize_t recv(int fd, void *buf, size_t n, int flags)
    ssize_t send(int fd, const void *buf, size_t n, int flags)
    int shutdown(int fd, int how)
    int MSG_DONTWAIT
    int MSG_NOSIGNAL
    int SHUT_WR
cdef extern from "stream/tls.h" nogil:
    struct lnt_tls_api:
        const void *(*TLS_method)() noexcept nogil
        void *(*SSL_CTX_new)(const void *) noexcept nogil
        void (*SSL_CTX_free)(void *) noexcept nogil
        long (*SSL_CTX_ctrl)(void *, int, long, void *) noexcept nogil
        int (*SSL_CTX_set_num_tickets)(void *, size_t) noexcept nogil
        void (*SSL_CTX_set_verify)(void *, int, void *) noexcept nogil
        void (*SSL_CTX_set_cert_verify_callback)(void *, int (*)(void *, void *) noexcept nogil, void *) noexcept nogil
        int (*SSL_CTX_use_certificate_ASN1)(void *, int, const unsigned char *) noexcept nogil
        int (*SSL_CTX_use_PrivateKey_ASN1)(int, void *, const unsigned char *, long) noexcept nogil
        int (*SSL_CTX_check_private_key)(const void *) noexcept nogil
        void *(*SSL_new)(void *) noexcept nogil
        void (*SSL_free)(void *) noexcept nogil
        int (*SSL_set_fd)(void *, int) noexcept nogil
        void (*SSL_set_accept_state)(void *) noexcept nogil
        void (*SSL_set_connect_state)(void *) noexcept nogil
        int (*SSL_do_handshake)(void *) noexcept nogil
        int (*SSL_read)(void *, void *, int) noexcept nogil
        int (*SSL_write)(void *, const void *, int) noexcept nogil
        int (*SSL_get_error)(const void *, int) noexcept nogil
        int (*SSL_shutdown)(void *) noexcept nogil
        void *(*SSL_get1_peer_certificate)(const void *) noexcept nogil
        int (*i2d_X509)(const void *, unsigned char **) noexcept nogil
        void (*X509_free)(void *) noexcept nogil
        unsigned long (*ERR_get_error)() noexcept nogil
        void (*ERR_error_string_n)(unsigned long, char *, size_t) noexcept nogil
        void (*ERR_clear_error)() noexcept nogil
    enum:
        LNT_TLS_1_3, LNT_TLS_MODE, LNT_TLS_READ_AHEAD, LNT_TLS_MIN_PROTO, LNT_TLS_MAX_PROTO, LNT_TLS_PARTIAL_WRITE
        LNT_TLS_MOVING_BUFFER, LNT_TLS_VERIFY_PEER, LNT_TLS_MUST_HAVE_CERT, LNT_TLS_EC_KEY, LNT_TLS_WANT_READ
        LNT_TLS_WANT_WRITE, LNT_TLS_SYSCALL, LNT_TLS_ZERO_RETURN
    int lnt_tls_load(lnt_tls_api *api)
    int lnt_tls_anyone(void *store, void *arg)

cdef enum:
    BUFFER_BYTES = 256 << 10
    MAX_CERTIFICATE_BYTES = 8192
    TEXT_BYTES = 256

cdef lnt_tls_api tls
cdef int loaded = 1                   # 0: it is there, -1: it is not, 1: nobody has looked yet

cdef struct lnt_way:                  # one direction
    uint8_t *buf
    uint64_t first                    # what of it is not handed on yet
    uint64_t last
    bint ended                        # no more comes
    bint told                         # and the other end knows


cdef class Relay:
    cdef void *ctx
    cdef void *ssl
    cdef int fd, plain, cancel
    cdef lnt_way up                   # from the plain socket to the peer
    cdef lnt_way down
    cdef short fd_events, plain_events
    cdef readonly uint64_t received_bytes     # from the peer, so far
    cdef char[TEXT_BYTES] text

    def __cinit__(self, int fd, int plain, int cancel, *, bytes certificate not None, bytes key not None, bint server):
        global loaded
        self.fd, self.plain, self.cancel = fd, plain, cancel
        if loaded == 1:
            loaded = lnt_tls_load(&tls)
        if loaded:
            raise OSError(ELIBACC, "the library libssl.so.3 is not there")
        self.up.buf = <uint8_t *>mem_new(BUFFER_BYTES)
        self.down.buf = <uint8_t *>mem_new(BUFFER_BYTES)
        self.ctx = tls.SSL_CTX_new(tls.TLS_method())
        if self.up.buf == NULL or self.down.buf == NULL or self.ctx == NULL:
            raise MemoryError
        tls.SSL_CTX_ctrl(self.ctx, LNT_TLS_MIN_PROTO, LNT_TLS_1_3, NULL)
        tls.SSL_CTX_ctrl(self.ctx, LNT_TLS_MAX_PROTO, LNT_TLS_1_3, NULL)
        tls.SSL_CTX_ctrl(self.ctx, LNT_TLS_MODE, LNT_TLS_PARTIAL_WRITE | LNT_TLS_MOVING_BUFFER, NULL)
        tls.SSL_CTX_ctrl(self.ctx, LNT_TLS_READ_AHEAD, 1, NULL)
        tls.SSL_CTX_set_num_tickets(self.ctx, 0)      # each connection shows its certificates anew
        tls.SSL_CTX_set_verify(self.ctx, LNT_TLS_VERIFY_PEER | LNT_TLS_MUST_HAVE_CERT, NULL)
        tls.SSL_CTX_set_cert_verify_callback(self.ctx, lnt_tls_anyone, NULL)
        self.show(certificate, key)
        self.ssl = tls.SSL_new(self.ctx)
        if self.ssl == NULL or tls.SSL_set_fd(self.ssl, fd) != 1:
            raise MemoryError
        if server:
            tls.SSL_set_accept_state(self.ssl)
        else:
            tls.SSL_set_connect_state(self.ssl)

    def __dealloc__(self):
        if self.ssl != NULL:
            tls.SSL_free(self.ssl)
        if self.ctx != NULL:
            tls.SSL_CTX_free(self.ctx)
        free(self.up.buf)
        free(self.down.buf)

    cdef int show(self, const unsigned char[::1] certificate, const unsigned char[::1] key) except -1:
        """To whoever is at the other end."""
        if tls.SSL_CTX_use_certificate_ASN1(self.ctx, <int>certificate.shape[0], &certificate[0]) != 1 \
                or tls.SSL_CTX_use_PrivateKey_ASN1(LNT_TLS_EC_KEY, self.ctx, &key[0], key.shape[0]) != 1 \
                or tls.SSL_CTX_check_private_key(self.ctx) != 1:
            raise self.error(EPROTO)
        return 0

    # -- on the thread -------------------------------------------------------------------------------------------------
    def handshake(self, double seconds):
        """The peer's certificate, in DER. OSError."""
        cdef int rc
        cdef uint64_t until_us = lnt_mono_us() + <uint64_t>(seconds * 1e6)
        cdef unsigned char[MAX_CERTIFICATE_BYTES] der
        cdef unsigned char *to = der
        cdef void *certificate
        with nogil:
            rc = self.shake_hands(until_us)
        if rc < 0:
            raise self.error(-rc)
        certificate = tls.SSL_get1_peer_certificate(self.ssl)
        if certificate == NULL:
            raise OSError(EPROTO, "the peer has no certificate")
        try:
            rc = tls.i2d_X509(certificate, NULL)
            if rc <= 0 or rc > MAX_CERTIFICATE_BYTES:
                raise OSError(EPROTO, "the peer's certificate is too large")
            tls.i2d_X509(certificate, &to)
        finally:
            tls.X509_free(certificate)
        return (<char *>der)[:rc]

    def run(self):
        """Carry bytes until both ends have said all, or `cancel` becomes readable. OSError."""
        cdef int rc
        with nogil:
            rc = self.carry()
        if rc < 0:
            raise self.error(-rc)

    cdef object error(self, int number):
        """What the library says, or else the system."""
        cdef unsigned long code = tls.ERR_get_error()
        if code == 0:
            return OSError(number, os.strerror(number))
        tls.ERR_error_string_n(code, self.text, TEXT_BYTES)
        tls.ERR_clear_error()
        return OSError(EPROTO, (<bytes>self.text).decode(errors="replace").rpartition(":")[2] or "the handshake failed")

    # -- without the GIL -----------------------------------------------------------------------------------------------
    cdef int rested(self, int rc) noexcept nogil:
        """After a call that did not go through: 0 when it wants to wait, or -errno."""
        cdef int number = errno
        cdef int why = tls.SSL_get_error(self.ssl, rc)
        if why == LNT_TLS_WANT_READ:
            self.fd_events |= POLLIN
            return 0
        if why == LNT_TLS_WANT_WRITE:
            self.fd_events |= POLLOUT
            return 0
        if why == LNT_TLS_SYSCALL:
            return -number if number else -ECONNRESET
        return -EPROTO

    cdef int wait(self, int timeout_ms) noexcept nogil:
        cdef pollfd[3] p
        cdef int n
        p[0].fd, p[0].events = self.fd if self.fd_events else -1, self.fd_events
        p[1].fd, p[1].events = self.plain if self.plain_events else -1, self.plain_events
        p[2].fd, p[2].events = self.cancel, POLLIN
        p[0].revents = p[1].revents = p[2].revents = 0
        n = poll(p, 3, timeout_ms)
        self.fd_events = self.plain_events = 0
        if n < 0 and errno != EINTR:
            return -errno
        if n == 0:
            return -ETIMEDOUT
        return -ECANCELED if p[2].revents else 0

    cdef int shake_hands(self, uint64_t until_us) noexcept nogil:
        cdef int rc
        cdef uint64_t now_us
        while True:
            tls.ERR_clear_error()
            errno_clear()
            rc = tls.SSL_do_handshake(self.ssl)
            if rc == 1:
                return 0
            rc = self.rested(rc)
            if rc:
                return rc
            now_us = lnt_mono_us()
            if now_us >= until_us:
                return -ETIMEDOUT
            rc = self.wait(<int>((until_us - now_us) // 1000) + 1)
            if rc:
                return rc

    cdef int carry(self) noexcept nogil:
        cdef int rc = 0
        cdef uint64_t moved
        while True:
            moved = 0
            rc = self.carry_up(&moved)
            if rc == 0:
                rc = self.carry_down(&moved)
            if rc:
                return rc
            if self.up.told and self.down.told:
                return 0
            if moved:
                continue
            rc = self.wait(-1)
            if rc:
                return rc

    cdef int carry_up(self, uint64_t *moved) noexcept nogil:
        cdef ssize_t n
        cdef int rc
        if self.up.first == self.up.last and not self.up.ended:
            n = recv(self.plain, self.up.buf, BUFFER_BYTES, MSG_DONTWAIT)
            if n > 0:
                self.up.first, self.up.last = 0, <uint64_t>n
            elif n == 0:
                self.up.ended = True
            elif errno == EAGAIN or errno == EINTR:
                self.plain_events |= POLLIN
            else:
                return -errno
        while self.up.first < self.up.last:
            tls.ERR_clear_error()
            errno_clear()
            rc = tls.SSL_write(self.ssl, self.up.buf + self.up.first, <int>(self.up.last - self.up.first))
            if rc <= 0:
                return self.rested(rc)
            self.up.first += <uint64_t>rc
            moved[0] += <uint64_t>rc
        if self.up.ended and not self.up.told:
            tls.ERR_clear_error()
            errno_clear()
            rc = tls.SSL_shutdown(self.ssl)
            if rc < 0:
                return self.rested(rc)
            self.up.told = True
        return 0

    cdef int carry_down(self, uint64_t *moved) noexcept nogil:
        cdef ssize_t n
        cdef int rc = 0
        if self.down.first == self.down.last:
            self.down.first = self.down.last = 0
        while self.down.last < BUFFER_BYTES and not self.down.ended:
            tls.ERR_clear_error()
            errno_clear()
            rc = tls.SSL_read(self.ssl, self.down.buf + self.down.last, <int>(BUFFER_BYTES - self.down.last))
            if rc > 0:
                self.down.last += <uint64_t>rc
                self.received_bytes += <uint64_t>rc
                continue
            if tls.SSL_get_error(self.ssl, rc) == LNT_TLS_ZERO_RETURN:
                self.down.ended = True
                break
            rc = self.rested(rc)
            if rc:
                return rc
            break
        while self.down.first < self.down.last:
            n = send(self.plain, self.down.buf + self.down.first, self.down.last - self.down.first, MSG_DONTWAIT | MSG_NOSIGNAL)
            if n < 0 and (errno == EAGAIN or errno == EINTR):
                self.plain_events |= POLLOUT
                return 0
            if n < 0:
                return -errno
            self.down.first += <uint64_t>n
            moved[0] += <uint64_t>n
        if self.down.ended and not self.down.told:
            shutdown(self.plain, SHUT_WR)
            self.down.told = True
        return 0


cdef inline void errno_clear() noexcept nogil:
    global errno
    errno = 0
