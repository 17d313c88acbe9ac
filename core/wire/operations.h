/* What the data plane knows of a command by its operation code alone: one row each. target/scsi/commands.py has what Python
 * knows of it; tests/core/test_operations.py compares the two. */
#ifndef LNT_OPERATIONS_H
#define LNT_OPERATIONS_H
#include <stdint.h>

enum {                          /* commands that are decided here, once more for how they run */
    FAST_NONE = 0,              /* Python decides */
    FAST_READ = 1,
    FAST_WRITE = 2,
    FAST_SYNC = 3,
    FAST_TUR = 4,
};

enum {                          /* commands by what they do to the medium; the order of reactor.DIRECTIONS */
    DIRECTION_READ = 0,
    DIRECTION_WRITE = 1,
    DIRECTION_UNMAP = 2,
    DIRECTION_SYNC = 3,
    DIRECTIONS = 4,
    DIRECTION_NONE = 255,       /* they ask, they do not touch it */
};

struct lnt_operation {
    uint8_t fast;
    uint8_t direction;
    uint8_t slow_bits;          /* of byte 1: a command that has one of them is Python's */
};

static const struct lnt_operation lnt_operations[256] = {
    [0 ... 255] = {FAST_NONE, DIRECTION_NONE, 0},
    [0x00] = {FAST_TUR, DIRECTION_NONE, 0},             /* TEST UNIT READY */
    [0x08] = {FAST_READ, DIRECTION_READ, 0xe0},         /* READ (6) */
    [0x0a] = {FAST_WRITE, DIRECTION_WRITE, 0xe0},       /* WRITE (6) */
    [0x28] = {FAST_READ, DIRECTION_READ, 0xe0},         /* READ (10): RDPROTECT */
    [0x2a] = {FAST_WRITE, DIRECTION_WRITE, 0xe0},       /* WRITE (10): WRPROTECT */
    [0x2e] = {FAST_NONE, DIRECTION_WRITE, 0},           /* WRITE AND VERIFY (10) */
    [0x35] = {FAST_SYNC, DIRECTION_SYNC, 0x02},         /* SYNCHRONIZE CACHE (10): IMMED */
    [0x41] = {FAST_NONE, DIRECTION_UNMAP, 0},           /* WRITE SAME (10) */
    [0x42] = {FAST_NONE, DIRECTION_UNMAP, 0},           /* UNMAP */
    [0x88] = {FAST_READ, DIRECTION_READ, 0xe0},         /* READ (16) */
    [0x89] = {FAST_NONE, DIRECTION_WRITE, 0},           /* COMPARE AND WRITE */
    [0x8a] = {FAST_WRITE, DIRECTION_WRITE, 0xe0},       /* WRITE (16) */
    [0x8e] = {FAST_NONE, DIRECTION_WRITE, 0},           /* WRITE AND VERIFY (16) */
    [0x91] = {FAST_SYNC, DIRECTION_SYNC, 0x02},         /* SYNCHRONIZE CACHE (16): IMMED */
    [0x93] = {FAST_NONE, DIRECTION_UNMAP, 0},           /* WRITE SAME (16) */
    [0x9c] = {FAST_NONE, DIRECTION_WRITE, 0},           /* WRITE ATOMIC (16) */
    [0xa8] = {FAST_READ, DIRECTION_READ, 0xe0},         /* READ (12) */
    [0xaa] = {FAST_WRITE, DIRECTION_WRITE, 0xe0},       /* WRITE (12) */
    [0xae] = {FAST_NONE, DIRECTION_WRITE, 0},           /* WRITE AND VERIFY (12) */
};
#endif
