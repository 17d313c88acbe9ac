/* A medium as slow as a test likes (tests/support/held_medium.py): librbd's calls on a file, whose reads end when the test says. */
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

typedef void (*callback)(void *completion, void *arg);
struct completion {
    struct completion *next;
    callback done;
    void *arg;
    ssize_t result;
    uint8_t first;                      /* byte that was read */
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct completion *head, **tail = &head;
static int holds;

static int ended(struct completion *c, ssize_t result)
{
    c->result = result;
    c->done(c, c->arg);
    return 0;
}

int rbd_aio_create_completion(void *arg, callback done, void **made)
{
    struct completion *c = calloc(1, sizeof *c);
    c->done = done;
    c->arg = arg;
    *made = c;
    return 0;
}

ssize_t rbd_aio_get_return_value(void *c) { return ((struct completion *)c)->result; }
void rbd_aio_release(void *c) { free(c); }

int rbd_aio_read(void *image, uint64_t at, size_t length, char *buf, void *completion)
{
    struct completion *c = completion;
    int held;
    c->result = pread((int)(intptr_t)image, buf, length, (off_t)at);
    c->first = length ? (uint8_t)buf[0] : 0;
    pthread_mutex_lock(&mutex);
    held = holds;
    if (held) {
        *tail = c;
        tail = &c->next;
    }
    pthread_mutex_unlock(&mutex);
    return held ? 0 : ended(c, c->result);
}

int rbd_aio_write(void *image, uint64_t at, size_t length, const char *buf, void *completion)
{
    return ended(completion, pwrite((int)(intptr_t)image, buf, length, (off_t)at));
}

int rbd_aio_discard(void *image, uint64_t at, uint64_t length, void *completion) { return ended(completion, 0); }
int rbd_aio_flush(void *image, void *completion) { return ended(completion, 0); }

int rbd_aio_compare_and_write(void *image, uint64_t at, size_t length, const char *compare, const char *buf, void *completion,
                              uint64_t *mismatch, int flags)
{
    return ended(completion, 0);
}

/* -- for the test ------------------------------------------------------------------------------------------------------ */

void held_hold(int on)
{
    pthread_mutex_lock(&mutex);
    holds = on;
    pthread_mutex_unlock(&mutex);
}

int held_first_bytes(uint8_t *to, int most)         /* of what is held, in its order; how many */
{
    int n = 0;
    pthread_mutex_lock(&mutex);
    for (struct completion *c = head; c && n < most; c = c->next)
        to[n++] = c->first;
    pthread_mutex_unlock(&mutex);
    return n;
}

int held_end_one(void)                              /* the oldest; its first byte, or -1 */
{
    struct completion *c;
    int first;
    pthread_mutex_lock(&mutex);
    c = head;
    if (c && !(head = c->next))
        tail = &head;
    pthread_mutex_unlock(&mutex);
    if (!c)
        return -1;
    first = c->first;
    ended(c, c->result);
    return first;
}
