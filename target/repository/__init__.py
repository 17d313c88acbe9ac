"""Repositories: snapshots kept in a directory or an S3 store, by a process outside the daemon (docs/repositories.md)."""
