# What a reactor, its connections and its LUNs have counted, as Python sees it.
from core.wire.nexus cimport lnt_connection, lnt_lun, lnt_reactor

cdef dict lun_stats(lnt_lun *lun)
cdef dict connection_stats(lnt_connection *c)
cdef dict loop_stats(lnt_reactor *r)
