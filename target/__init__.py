"""Lunette: the iSCSI front-end and control plane over `core`."""
