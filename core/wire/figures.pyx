"""What a reactor, its connections and its LUNs have counted, as Python sees it.

Owns nothing. Each word is read as it is: it may be old by a command.
"""
COUNTERS = ("fast_reads", "fast_writes", "fast_other", "slow", "read_bytes", "write_bytes", "errors", "delayed", "delayed_us")


cdef dict lun_stats(lnt_lun *lun):
    return {"session": lun.session.handle, "lun": lun.number, "object_id": lun.object_id,
            "fast_reads": lun.counters.fast_reads, "fast_writes": lun.counters.fast_writes, "fast_other": lun.counters.fast_other,
            "slow": lun.counters.slow, "read_bytes": lun.counters.read_bytes, "write_bytes": lun.counters.write_bytes,
            "errors": lun.counters.errors, "delayed": lun.counters.delayed, "delayed_us": lun.counters.delayed_us,
            "in_flight": lun.refs}


cdef dict connection_stats(lnt_connection *c):
    return {"session": c.session.handle, "conn": c.handle, "cid": c.cid,
            "rx_bytes": c.traffic.rx_bytes, "tx_bytes": c.traffic.tx_bytes,
            "rx_pdus": c.traffic.rx_pdus, "tx_pdus": c.traffic.tx_pdus,
            "tasks": c.task_count, "digest_errors": c.traffic.digest_errors, "rejects": c.traffic.rejects,
            "snacks": c.traffic.snacks, "resent": c.traffic.resent, "recovery_r2ts": c.traffic.recovery_r2ts,
            "kept": c.kept.count, "kept_bytes": c.kept.bytes}


cdef dict loop_stats(lnt_reactor *r):
    return {"turns": r.counters.turns, "wakeups": r.counters.wakeups, "gathers": r.pacing.gathers,
            "spins": r.pacing.spins, "watches": r.pacing.watches, "watched_us": r.pacing.watched_us, "starts": r.counters.starts,
            "cqes": r.counters.cqes, "sends": r.counters.sends,
            "async_sends": r.counters.async_sends, "direct_recvs": r.counters.direct_receives,
            "starved": r.counters.starved,
            "pauses": r.counters.pauses,
            "in_place_writes": r.inbound.held, "receive_buffers_out": r.inbound.out,
            "shared": r.counters.shared,
            "device_reads": r.disk.reads, "device_writes": r.disk.writes,
            "device_syncs": r.disk.syncs, "device_read_bytes": r.disk.read_bytes,
            "device_write_bytes": r.disk.write_bytes, "device_in_flight": r.disk.in_flight,
            "device_held_reads": r.disk.waves.held, "own_syncs": r.disk.lone.times,
            "inline_io": r.disk.inline_io, "throttled": r.disk.throttle.times,
            "mapped_bytes": r.disk.map_bytes, "windows_enabled": r.disk.windows.enabled,
            "window_copies": r.disk.windows.copies,
            "window_rewrites": r.disk.windows.rewrites, "buffer_bytes": r.buffers.used,
            "buffer_cached_bytes": r.buffers.cached, "python_bytes": r.buffers.charged,
            "tasks": r.tasks.live, "delayed": r.delays.count, "delayed_bytes": r.delays.held_bytes}
