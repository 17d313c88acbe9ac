"""The only I/O shell: sockets, daemon, API."""
