"""The only shell for I/O. `daemon.py` wires its rooms together, and is imported by none of them.

`background` works on the pool and for the others, `disks` makes a disk of a pool object, `iscsi` serves initiators, `api` serves
people and programs. Each may import what is named before it (docs/architecture.md).
"""
