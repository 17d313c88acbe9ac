# Replay of the journal.
from core._state cimport lnt_pool

cdef int journal_replay(lnt_pool *p, object device, bytes raw, int trusted, list changes) except -1
