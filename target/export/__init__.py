"""What reads a daemon's snapshots for somebody else, in a process of its own: the NBD server."""
