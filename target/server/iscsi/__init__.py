"""What serves iSCSI: portals, logins, sessions, task management, the door to the data plane. Imports `background`, `disks`."""
