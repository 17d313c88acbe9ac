"""Whether it pays to stay awake for the next command: tried in turns, and judged by how soon commands come.

Lives here and nowhere else: `lnt_trial`. A spin saves a wake-up, but it also takes the core, or half of it, from an initiator
that runs on this machine, and then its next command comes later. Which of the two weighs more depends on where the scheduler
puts threads and on what else runs; no figure of the kernel tells. Who sends a command when it has the answer to the last one,
though, sends sooner by what an answer is sooner. So turns are waited for both ways, and what brings commands sooner by more
than chance is kept for a while. Commands that come at times of their own show no difference: then the reactor sleeps.
"""

cdef enum:
    EPOCH_TURNS = 64                  # that are waited for in one way
    TRIAL_TURNS = 4 * EPOCH_TURNS     # awake, asleep, asleep, awake: what changes steadily meanwhile counts for neither
    ROUND_TURNS = 17 * TRIAL_TURNS    # from trial to trial
    GAP_MOST_US = 250                 # what is longer is no matter of wake-ups

cdef double KEPT = 0.75               # of what earlier trials found, at each
cdef double LEAST_GAIN = 1.0 / 32     # of the time without
cdef double CHANCE = 1.5 * 1.5        # squared: of so many standard errors a difference may be by chance


cdef inline double mean(const lnt_evidence *e) noexcept nogil:
    return e.sum / e.count

cdef inline double error_squared(const lnt_evidence *e) noexcept nogil:
    # Of the mean.
    return (e.squares / e.count - mean(e) * mean(e)) / e.count


cdef bint judged(const lnt_trial *t) noexcept nogil:
    cdef double gain = mean(&t.evidence[0]) - mean(&t.evidence[1])
    return (gain > LEAST_GAIN * mean(&t.evidence[0])
            and gain * gain > CHANCE * (error_squared(&t.evidence[0]) + error_squared(&t.evidence[1])))


cdef void weigh(lnt_evidence *e, double us) noexcept nogil:
    e.count += 1
    e.sum += us
    e.squares += us * us


cdef void age(lnt_evidence *e) noexcept nogil:
    e.count *= KEPT
    e.sum *= KEPT
    e.squares *= KEPT


cdef void trial_heard(lnt_trial *t, uint64_t now_us, uint64_t commands) noexcept nogil:
    """A turn brought so many commands, at least one; `awake` says how to wait for the next."""
    cdef uint32_t epoch = t.turns // EPOCH_TURNS
    if t.turns < TRIAL_TURNS:
        weigh(&t.evidence[t.awake], <double>min(now_us - t.heard_us, <uint64_t>GAP_MOST_US) / commands)
    t.heard_us = now_us
    t.turns += 1
    if t.turns == TRIAL_TURNS:
        t.pays = judged(t)
    elif t.turns == ROUND_TURNS:
        age(&t.evidence[0])
        age(&t.evidence[1])
        t.turns = 0
    epoch = t.turns // EPOCH_TURNS
    t.awake = (epoch == 0 or epoch == 3) if t.turns < TRIAL_TURNS else t.pays


cdef class Trial:
    """For tests: by a clock of theirs."""

    def heard(self, uint64_t now_us, uint64_t commands):
        trial_heard(&self.trial, now_us, commands)

    @property
    def awake(self):
        return bool(self.trial.awake)
