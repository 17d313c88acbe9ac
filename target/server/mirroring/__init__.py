"""Mirrors between daemons: the listener for peers, rounds, failover (docs/protection.md). Imports `background`."""
