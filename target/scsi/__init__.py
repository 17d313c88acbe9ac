"""Pure SCSI command semantics: CDB, nexus and logical unit in; status, sense and data out (SAM-5, SPC-4, SBC-4)."""
