"""How a reactor waits between turns: it sleeps, spins for lone commands, watches a device, or lets commands gather.

Lives here and nowhere else: `lnt_reactor.pacing`. The reasons and figures are in docs/performance.md.
"""
from core.wire.share cimport share_due
from core.wire.thread cimport ACQUIRE, lnt_load32
from core.wire.uring cimport lnt_cqe, lnt_ring_pump, lnt_ring_wait
from libc.stdint cimport uint64_t

cdef extern from "base/native.h" nogil:
    uint64_t lnt_mono_us()
cdef extern from "lease.h" nogil:
    void lnt_lease_prove(const uint64_t *until_us)

cdef extern from *:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <sched.h>
    #include <stdint.h>
    #include <string.h>
    #include <sys/prctl.h>
    #include <sys/syscall.h>
    #include <time.h>
    #include <unistd.h>
    static void lnt_pause(void)
    {
    #if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
    #elif defined(__aarch64__)
        __asm__ volatile("yield");
    #endif
    }
    struct lnt_sched_attr {             /* struct sched_attr, which this machine's C library may or may not declare */
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime_ns, deadline_ns, period_ns;
    };
    static void lnt_short_slice(uint64_t ns)    /* asked for; kernels before 6.12, and other schedulers, take no notice */
    {
        struct lnt_sched_attr a;
        memset(&a, 0, sizeof a);
        if (syscall(SYS_sched_getattr, 0, &a, sizeof a, 0) || a.policy != SCHED_OTHER)
            return;
        a.runtime_ns = ns;
        syscall(SYS_sched_setattr, 0, &a, 0);
    }
    static void lnt_sleep_us(unsigned us)
    {
        struct timespec t = { .tv_nsec = us * 1000L };
        nanosleep(&t, 0);
    }
    static void lnt_exact_timers(void) { prctl(PR_SET_TIMERSLACK, 1000UL); }   /* ns instead of 50,000 */
    """
    void lnt_pause() nogil
    void lnt_short_slice(uint64_t ns) nogil
    void lnt_sleep_us(unsigned us) nogil
    void lnt_exact_timers() nogil

cdef enum:
    BEHIND_NONE = 1000000             # no command came in this turn
    GATHER_BEHIND = 8                 # answers an initiator has yet to take when a pause costs it nothing
    GATHER_US = 50
    BUSY = 8                          # requests at the device from which on half of them are waited for at a time ...
    BUSY_MOST = 16                    # ... up to so many, ...
    BUSY_US = 100                     # ... no longer than this
    WATCH_US = 48                     # for so long a device is watched for each request it was given, ...
    WATCH_BYTES = 32768               # ... and for each so many bytes, ...
    WATCH_POLLS = 4                   # ... at most so many times --poll-us in one go
    MEMORY_RETRY_US = 10000
    SLICE_NS = 200000                 # short turns on the processor, and so early ones (the kernel's own is longer)

cdef uint64_t FOREVER = <uint64_t>-1


cdef void pacing_start() noexcept nogil:
    """For the calling thread: waits of microseconds end when they should, and it runs soon after it wakes."""
    lnt_exact_timers()
    lnt_short_slice(SLICE_NS)


cdef uint64_t pdus_of_turn(lnt_reactor *r) noexcept nogil:
    # PDUs of the turn that ends, and a decaying mean of those of turns that had any (in sixteenths).
    cdef uint64_t pdus = r.counters.pdus - r.pacing.seen_pdus
    r.pacing.seen_pdus = r.counters.pdus
    if pdus:
        r.pacing.pdu_mean = <uint32_t>(r.pacing.pdu_mean - r.pacing.pdu_mean // 16 + (pdus if pdus < 64 else 64))
    return pdus


cdef bint answered_in_turn(lnt_reactor *r) noexcept nogil:
    # With a device that takes its time, or Python, the answer to a lone command goes out in a later turn than it came in.
    cdef bint answered = r.counters.sends != r.pacing.seen_sends
    r.pacing.seen_sends = r.counters.sends
    return answered


cdef bint given_in_turn(lnt_reactor *r) noexcept nogil:
    # The data of a lone write may come in a later turn than its command did, and only then the device has it.
    cdef bint given = r.disk.reads + r.disk.writes != r.pacing.seen_given and r.disk.in_flight == 1
    r.pacing.seen_given = r.disk.reads + r.disk.writes
    return given


cdef inline bint device_is_busy(lnt_reactor *r) noexcept nogil:
    # It has many reads and writes, and each of them completes by itself: librbd's do not.
    return r.disk.in_flight >= BUSY + r.disk.syncing + r.disk.discarding and r.disk.image.handle == NULL


cdef inline bint kernel_works(lnt_reactor *r) noexcept nogil:
    # A thread of the kernel does what was asked, and wants a core: a sync, whatever a loop device has.
    return r.disk.syncing != 0 or (r.disk.loops and r.disk.in_flight != 0)


cdef inline bint may_spin(lnt_reactor *r, uint64_t pdus, bint busy, uint32_t behind) noexcept nogil:
    # Not where the answer waits for a thread of the kernel that wants this core, longer than a spin. Nor where the pool is a
    # network away: each of its requests takes longer than a spin, and beside that a wake-up is little. Nor where the initiator
    # shares this core: a spin keeps it from running, so that its next command comes after it.
    return (r.poll_us and not kernel_works(r) and r.disk.image.handle == NULL and (pdus or busy) and not r.pacing.here
            and (r.pacing.pdu_mean < LONE_MEAN or behind == 0))


cdef inline bint may_gather(lnt_reactor *r, uint64_t pdus, uint32_t behind) noexcept nogil:
    # Each initiator heard in this turn has more answers to work off than the pause takes. Taken one by one, its commands would
    # cost a wake-up and a send each. But the device has nothing to work off: what it ends in a pause waits, and then so does it.
    return pdus and behind >= GATHER_BEHIND and behind != BEHIND_NONE and r.disk.in_flight == r.disk.syncing


cdef int spin(lnt_reactor *r, uint64_t until) noexcept nogil:
    # Spinning shortens the answer to a lone command, and to a batch whose sender has taken every answer before; else others in
    # flight hide a wake-up. Where spins keep finding nothing, only one chance in sixteen is taken. 1: there is something to do.
    cdef uint64_t now, spin_end
    r.pacing.spin_chances += 1
    if not r.pacing.spin_score and r.pacing.spin_chances % 16:
        return 0
    r.pacing.spins += 1
    lnt_ring_pump(r.ring)
    now = lnt_mono_us()
    spin_end = now + r.poll_us
    while lnt_cqe(r.ring) == NULL and now < spin_end and now < until:
        lnt_pause()
        lnt_ring_pump(r.ring)
        now = lnt_mono_us()
    if lnt_cqe(r.ring) != NULL:
        if r.pacing.spin_score < 16:
            r.pacing.spin_score += 4
        return 1
    if r.pacing.spin_score:
        r.pacing.spin_score -= 1
    return now >= until


cdef inline void earn_watch(lnt_reactor *r) noexcept nogil:
    # Each request that the device was given pays for some microseconds of watching it, so that is what watching costs at most.
    cdef uint64_t requests = r.disk.reads + r.disk.writes + (r.disk.read_bytes + r.disk.write_bytes) // WATCH_BYTES
    cdef uint64_t earned = (requests - r.pacing.seen_requests) * WATCH_US
    r.pacing.credit_us = min(r.pacing.credit_us + earned, <uint64_t>r.poll_us * WATCH_POLLS)
    r.pacing.seen_requests = requests


cdef inline bint may_watch(lnt_reactor *r) noexcept nogil:
    # Only what is asked past the page cache ends without a thread of the kernel that works for it, and wants this core. Nor where
    # a lone initiator wants it, or one is behind: while the device has little, more is to come, and better together.
    return (r.pacing.credit_us and not kernel_works(r) and not r.disk.page_cache and not r.disk.inline_io
            and r.disk.image.handle == NULL
            and (device_is_busy(r) or (r.pacing.lag < GATHER_BEHIND and r.pacing.here < HERE_COMMANDS)))


cdef int watch(lnt_reactor *r, uint64_t until) noexcept nogil:
    # A device is in use: what ends is answered, and what comes is submitted, without a wake-up. It would cost us its time, and
    # the initiator, too, whose core has to wake ours. 1: there is something to do.
    cdef uint64_t began, now, watch_end, spent
    lnt_ring_pump(r.ring)
    began = lnt_mono_us()
    watch_end = min(began + r.pacing.credit_us, until)
    now = began
    while lnt_cqe(r.ring) == NULL and now < watch_end:
        lnt_pause()
        lnt_ring_pump(r.ring)
        now = lnt_mono_us()
    spent = min(now - began, r.pacing.credit_us)    # more than that was somebody else's turn
    r.pacing.credit_us -= spent
    r.pacing.watched_us += spent
    r.pacing.watches += 1
    return lnt_cqe(r.ring) != NULL or now >= until


cdef void sleep(lnt_reactor *r, uint64_t until) noexcept nogil:
    # Until something completes. Of many requests at the device half, for a short while: it works on the others while these are
    # answered and new ones come. One by one each would take a wake-up and a send, and all at once would leave it idle meanwhile.
    cdef uint64_t now = lnt_mono_us()
    if device_is_busy(r) and until > now + BUSY_US:
        lnt_ring_wait(r.ring, min((r.disk.in_flight - r.disk.waves.waiting) // 2, <uint32_t>BUSY_MOST), BUSY_US)
        if lnt_cqe(r.ring) != NULL:
            return
        now = lnt_mono_us()             # it is a slow one
    if until == FOREVER:
        lnt_ring_wait(r.ring, 1, FOREVER)
    else:
        lnt_ring_wait(r.ring, 1, until - now if until > now else 0)


cdef void pacing_wait(lnt_reactor *r) noexcept nogil:
    """Submit what the turn prepared and wait for the next completion or deadline."""
    cdef uint64_t until = min(r.engine_us, r.keepalive_us, r.idle_us, r.delays.wake_us)
    cdef uint64_t now = r.now_us
    cdef uint64_t pdus = pdus_of_turn(r)
    cdef bint busy = answered_in_turn(r) | given_in_turn(r)
    cdef uint32_t behind = r.pacing.behind
    r.pacing.behind = BEHIND_NONE
    if behind != BEHIND_NONE:
        r.pacing.lag = behind
    if r.tasks.waiting.head != NULL and r.buffers.refused and until > now + MEMORY_RETRY_US:
        until = now + MEMORY_RETRY_US   # nobody says when there is memory again
    lnt_lease_prove(r.lease_us)         # what is submitted now may be writes
    if (r.disk.done_head != NULL or r.submit_head != NULL or r.dirty != NULL or lnt_load32(&r.engine_due, ACQUIRE)
            or until <= now or r.reap or r.settle != NULL or share_due(r)):
        lnt_ring_pump(r.ring)
        return
    earn_watch(r)
    if may_gather(r, pdus, behind) and until - now > GATHER_US:
        lnt_ring_pump(r.ring)
        if lnt_cqe(r.ring) == NULL:
            lnt_sleep_us(GATHER_US)
            r.pacing.gathers += 1
            lnt_ring_pump(r.ring)
        if lnt_cqe(r.ring) != NULL:
            return
    elif may_watch(r) and watch(r, until):
        return
    elif may_spin(r, pdus, busy, behind) and spin(r, until):
        return
    r.counters.wakeups += 1
    sleep(r, until)
