# Replay of the journal: which frames count, and what their records do (docs/on-disk-format.md, "Which frames are replayed").
from core.base.pool cimport lnt_pool

cdef int journal_replay(lnt_pool *p, object device, bytes raw, int trusted, list changes) except -1
