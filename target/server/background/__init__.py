"""Work that nobody waits for: scrub, trim, schedules, the monitor, what goes on after its answer. Imports no other room."""
