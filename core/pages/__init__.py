"""Metadata pages: their format, their cache, checksums of data, and pages that cannot be had.

May import core.base.
"""
