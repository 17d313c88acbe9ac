"""Work that nobody waits for: scrub, trim, the monitor, what goes on after its answer. Imports no other room of the server."""
