"""What serves the API: commands, batches, listings, metrics, HTTP. Imports `background`, `disks` and `iscsi`."""
