"""What serves the API: commands, batches, listings, metrics, HTTP. Imports `background`, `mirroring`, `disks` and `iscsi`."""
