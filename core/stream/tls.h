/* The calls that peers take from the system's libssl and the libcrypto below it, by dlopen: both are on every Debian, their
 * headers are not. */
#ifndef LNT_TLS_H
#define LNT_TLS_H
#include "../base/library.h"
#include <stddef.h>
#include <stdint.h>

struct lnt_tls_api {
    const void *(*TLS_method)(void);
    void *(*SSL_CTX_new)(const void *);
    void (*SSL_CTX_free)(void *);
    long (*SSL_CTX_ctrl)(void *, int, long, void *);
    uint64_t (*SSL_CTX_set_options)(void *, uint64_t);
    int (*SSL_CTX_set_num_tickets)(void *, size_t);
    void (*SSL_CTX_set_verify)(void *, int, void *);
    void (*SSL_CTX_set_cert_verify_callback)(void *, int (*)(void *, void *), void *);
    int (*SSL_CTX_use_certificate_ASN1)(void *, int, const unsigned char *);
    int (*SSL_CTX_use_PrivateKey_ASN1)(int, void *, const unsigned char *, long);
    int (*SSL_CTX_check_private_key)(const void *);
    void *(*SSL_new)(void *);
    void (*SSL_free)(void *);
    int (*SSL_set_fd)(void *, int);
    void (*SSL_set_accept_state)(void *);
    void (*SSL_set_connect_state)(void *);
    int (*SSL_do_handshake)(void *);
    int (*SSL_read)(void *, void *, int);
    int (*SSL_write)(void *, const void *, int);
    int (*SSL_get_error)(const void *, int);
    int (*SSL_shutdown)(void *);
    void *(*SSL_get1_peer_certificate)(const void *);
    int (*i2d_X509)(const void *, unsigned char **);
    void (*X509_free)(void *);
    unsigned long (*ERR_get_error)(void);
    void (*ERR_error_string_n)(unsigned long, char *, size_t);
    void (*ERR_clear_error)(void);
};

enum {
    LNT_TLS_1_3 = 0x0304,
    LNT_TLS_MODE = 33, LNT_TLS_READ_AHEAD = 41, LNT_TLS_MIN_PROTO = 123, LNT_TLS_MAX_PROTO = 124,   /* of SSL_CTX_ctrl */
    LNT_TLS_PARTIAL_WRITE = 1, LNT_TLS_MOVING_BUFFER = 2,
    LNT_TLS_VERIFY_PEER = 1, LNT_TLS_MUST_HAVE_CERT = 2,
    LNT_TLS_EC_KEY = 408,
    LNT_TLS_WANT_READ = 2, LNT_TLS_WANT_WRITE = 3, LNT_TLS_SYSCALL = 5, LNT_TLS_ZERO_RETURN = 6,      /* of SSL_get_error */
};

static int lnt_tls_load(struct lnt_tls_api *api)      /* 0, or -1 when the library or a symbol is missing */
{
    static const struct lnt_symbol symbols[] = {
#define LNT_SYM(f) { #f, offsetof(struct lnt_tls_api, f) }
        LNT_SYM(TLS_method), LNT_SYM(SSL_CTX_new), LNT_SYM(SSL_CTX_free), LNT_SYM(SSL_CTX_ctrl), LNT_SYM(SSL_CTX_set_options),
        LNT_SYM(SSL_CTX_set_num_tickets), LNT_SYM(SSL_CTX_set_verify), LNT_SYM(SSL_CTX_set_cert_verify_callback),
        LNT_SYM(SSL_CTX_use_certificate_ASN1), LNT_SYM(SSL_CTX_use_PrivateKey_ASN1), LNT_SYM(SSL_CTX_check_private_key),
        LNT_SYM(SSL_new), LNT_SYM(SSL_free), LNT_SYM(SSL_set_fd), LNT_SYM(SSL_set_accept_state), LNT_SYM(SSL_set_connect_state),
        LNT_SYM(SSL_do_handshake), LNT_SYM(SSL_read), LNT_SYM(SSL_write), LNT_SYM(SSL_get_error), LNT_SYM(SSL_shutdown),
        LNT_SYM(SSL_get1_peer_certificate), LNT_SYM(i2d_X509), LNT_SYM(X509_free), LNT_SYM(ERR_get_error),
        LNT_SYM(ERR_error_string_n), LNT_SYM(ERR_clear_error),
#undef LNT_SYM
    };
    return lnt_library_load("libssl.so.3", symbols, sizeof symbols / sizeof symbols[0], api);
}

/* Whose certificate it is, is decided by who knows the peers: here anyone's is taken. That its owner has the key is proven. */
static int lnt_tls_anyone(void *store, void *arg)
{
    (void)store, (void)arg;
    return 1;
}
#endif
