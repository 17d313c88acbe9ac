"""What the daemon's own figures are called as metrics: name and help of each (docs/monitoring.md)."""

from __future__ import annotations

from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

BLOCK_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Name:
    """One figure. `key` is what it is called inside; a `metric` that ends in _total only rises since the daemon's start."""

    key: str
    metric: str
    text: str
    scale: float = 1

    def family(self, labels: list[str]) -> CounterMetricFamily | GaugeMetricFamily:
        made: type[CounterMetricFamily | GaugeMetricFamily] = (
            CounterMetricFamily if self.metric.endswith("_total") else GaugeMetricFamily)
        return made(self.metric, self.text, labels=labels)


POOL = (
    Name("size_bytes", "lunette_pool_size_bytes", "Size of the pool."),
    Name("used_bytes", "lunette_pool_used_bytes", "Bytes that data, metadata and what is on its way to be free take."),
    Name("available_bytes", "lunette_pool_available_bytes",
         "Bytes that can still be written: what is free, less what is kept for metadata and reservations, and no more than the "
         "file system below has room for."),
    Name("medium_free_bytes", "lunette_pool_medium_free_bytes",
         "Bytes that the file system below could still give to the pool's file."),
    Name("medium_short", "lunette_pool_medium_short", "1 while the file system below refuses to give room."),
    Name("provisioned_bytes", "lunette_pool_provisioned_bytes",
         "Sizes of all volumes and clones together; divided by the pool's size: the overcommitment."),
    Name("reserve_bytes", "lunette_pool_reserve_bytes", "Bytes kept for metadata, so that a full pool can be emptied."),
    Name("reserved_unused_bytes", "lunette_pool_reserved_unused_bytes",
         "Bytes that reservations of volumes keep and that are not mapped yet."),
    Name("pending_bytes", "lunette_pool_pending_bytes", "Bytes of what was deleted that are not free yet."),
    Name("reclaimed_bytes", "lunette_pool_reclaimed_bytes_total",
         "Bytes of deleted objects and unmapped ranges that became free."),
    Name("moved_bytes", "lunette_pool_defrag_moved_bytes_total",
         "Bytes of volumes that lay scattered and were put into runs of their own."),
    Name("copied_bytes", "lunette_pool_defrag_copied_bytes_total",
         "Bytes of those that others keep where they were, so that they take space again."),
    Name("unordered_regions", "lunette_pool_defrag_nowhere_total",
         "Regions of 2 MiB that were to be put in order and found no place."),
    Name("read_only", "lunette_pool_read_only", "1 when an I/O error or an order of an administrator made the pool read-only."),
    Name("cut_off_bytes", "lunette_pool_cut_off_bytes",
         "Bytes by which somebody made the pool's file shorter while it was served."),
    Name("lost_name", "lunette_pool_lost_name", "1 when somebody deleted or renamed the pool's file while it was served."),
    Name("damaged_pages", "lunette_pool_damaged_pages", "Pages of metadata that are known to be bad now."),
    Name("damage_met", "lunette_pool_damage_total", "Times that a bad page of metadata was met."),
    Name("set_aside_bytes", "lunette_pool_set_aside_bytes", "Bytes that are not used any more because of damaged metadata."),
    Name("punched_bytes", "lunette_pool_punched_bytes", "Free bytes that were given back to the medium as holes."),
    Name("unswept_bytes", "lunette_pool_unswept_bytes", "Free bytes that are still to be given back to the medium."),
    Name("cache_pages", "lunette_pool_cache_pages", "Pages of the map and of counts in memory."),
    Name("cache_limit_pages", "lunette_pool_cache_limit_pages", "Pages of the map and of counts that memory is meant to hold."),
    Name("dirty_pages", "lunette_pool_dirty_pages", "Pages in memory that the next checkpoint writes."),
    Name("cache_hits", "lunette_pool_cache_hits_total", "Pages that were wanted and in memory."),
    Name("cache_misses", "lunette_pool_cache_misses_total", "Pages that were wanted and had to be read."),
    Name("cache_evictions", "lunette_pool_cache_evictions_total", "Pages that made room for others in memory."),
    Name("journal_bytes", "lunette_pool_journal_bytes_total", "Bytes written to the journal."),
    Name("journal_frames", "lunette_pool_journal_frames_total",
         "Frames written to the journal: the changes that one write makes durable."),
    Name("journal_records", "lunette_pool_journal_records_total", "Changes of metadata put into the journal."),
    Name("journal_room_blocks", "lunette_pool_journal_room_bytes",
         "Bytes of the journal that are left before a checkpoint must have ended.", scale=BLOCK_BYTES),
    Name("syncs", "lunette_pool_syncs_total", "Times the medium was told to make durable what it had."),
    Name("checkpoints", "lunette_pool_checkpoints_total", "Checkpoints that ended."),
    Name("merged_writes", "lunette_pool_partial_writes_total", "Writes of part of a block, for which the rest had to be read."),
)

REACTOR = (
    Name("turns", "lunette_reactor_turns_total", "Turns of the data plane's loop."),
    Name("wakeups", "lunette_reactor_wakeups_total", "Times the loop slept until something happened."),
    Name("gathers", "lunette_reactor_gathers_total", "Pauses taken for more commands to come."),
    Name("spins", "lunette_reactor_spins_total", "Times the loop stayed awake for the next command of a lone initiator."),
    Name("watches", "lunette_reactor_watches_total", "Times the loop stayed awake because the medium had requests."),
    Name("watched_us", "lunette_reactor_watched_seconds_total", "How long that was.", scale=1e-6),
    Name("starts", "lunette_reactor_starts_total", "Submissions of a few requests before the rest of a turn's."),
    Name("cqes", "lunette_reactor_completions_total", "Completions that the kernel reported."),
    Name("sends", "lunette_reactor_sends_total", "System calls that sent answers."),
    Name("async_sends", "lunette_reactor_async_sends_total", "Sends that waited for room in a socket."),
    Name("direct_recvs", "lunette_reactor_direct_receives_total", "Data segments received straight into their buffers."),
    Name("starved", "lunette_reactor_receive_starved_total", "Receives that ended for want of a receive buffer."),
    Name("shared", "lunette_reactor_shared_commands_total",
         "Reads and writes that waited for a later turn, so that other hosts have theirs of reactor and medium."),
    Name("pauses", "lunette_reactor_pauses_total",
         "Times that nothing more was read from a connection because it did not take its answers."),
    Name("device_reads", "lunette_reactor_device_reads_total", "Reads asked of the medium."),
    Name("device_writes", "lunette_reactor_device_writes_total", "Writes asked of the medium."),
    Name("device_syncs", "lunette_reactor_device_syncs_total", "Syncs asked of the medium."),
    Name("device_read_bytes", "lunette_reactor_device_read_bytes_total", "Bytes asked of the medium."),
    Name("device_write_bytes", "lunette_reactor_device_written_bytes_total", "Bytes given to the medium."),
    Name("device_in_flight", "lunette_reactor_device_in_flight", "Requests that the medium has not answered."),
    Name("device_held_reads", "lunette_reactor_device_held_reads_total",
         "Reads that waited for a medium that ends everything at once."),
    Name("throttled", "lunette_reactor_page_cache_throttles_total", "Times the kernel made a write into the page cache wait."),
    Name("buffer_bytes", "lunette_reactor_buffer_bytes", "Bytes of data buffers in use."),
    Name("buffer_cached_bytes", "lunette_reactor_buffer_cached_bytes", "Bytes of data buffers kept for use."),
    Name("python_bytes", "lunette_reactor_control_bytes", "Bytes of data that the control plane holds or has answered."),
    Name("delayed", "lunette_reactor_throttled_commands", "Commands that wait for limits now."),
    Name("delayed_bytes", "lunette_reactor_throttled_bytes", "Bytes of data that they hold."),
    Name("tasks", "lunette_reactor_tasks", "Commands and requests under way."),
)

VOLUME_GAUGES = (
    Name("size_bytes", "lunette_volume_size_bytes", "Size of a volume or clone, as initiators see it."),
    Name("mapped_bytes", "lunette_volume_mapped_bytes", "Bytes that were written and not unmapped, whoever shares them."),
    Name("exclusive_bytes", "lunette_volume_exclusive_bytes",
         "Bytes that deleting it alone would free. Where there are many volumes, as last known."),
    Name("quota_bytes", "lunette_volume_quota_bytes", "At most so many bytes may be mapped; 0: no quota."),
    Name("reserve_bytes", "lunette_volume_reserve_bytes", "Bytes of the pool kept for it."),
    Name("iops", "lunette_volume_limit_commands_per_second", "Commands a second that it is limited to."),
    Name("bandwidth_bytes", "lunette_volume_limit_bytes_per_second", "Bytes a second that it is limited to."),
    Name("snapshots", "lunette_volume_snapshots", "Snapshots of it that there are."),
)

VOLUME_COUNTERS = {name.key: name for name in (
    Name("read_bytes", "lunette_volume_read_bytes_total", "Bytes read by initiators."),
    Name("write_bytes", "lunette_volume_written_bytes_total", "Bytes written by initiators."),
    Name("errors", "lunette_volume_command_errors_total", "Commands of the data plane that ended in an error."),
    Name("delayed", "lunette_volume_throttled_commands_total", "Commands that a limit made wait."),
    Name("delayed_us", "lunette_volume_throttled_seconds_total", "How long limits made commands wait, all of them together.",
         scale=1e-6),
    Name("slow", "lunette_volume_control_commands_total",
         "Commands that the control plane decided: inquiries, reservations and whatever they make it see."),
)}
