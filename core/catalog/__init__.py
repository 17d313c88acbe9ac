"""Objects: their slots on the medium, the changes that are made to them, and how they are loaded.

May import core.base, core.pages, core.space, core.objects and core._blkmap.
"""
