"""Sans-I/O iSCSI: bytes and a clock in, PDUs and events out (RFC 7143)."""
