"""The NBD protocol, sans-I/O: bytes in, requests and bytes out (docs/export.md). It imports nothing of Lunette."""
