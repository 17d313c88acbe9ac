# Operations on objects and the catalog, atomic by one journal frame each (docs/durability.md, "Admin operations").
from core.base.operation cimport lnt_admin
from core.base.pool cimport lnt_pool

cdef void admin_submit(lnt_pool *p, lnt_admin *a) noexcept nogil
cdef void admin_run(lnt_pool *p, lnt_admin *a) noexcept nogil
