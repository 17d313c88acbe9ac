"""Which gateway serves which pool, where there are many of both: leases in etcd, a table, and an agent on each machine."""
