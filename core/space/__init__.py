"""Blocks: how often each is referred to, which are taken next, what was dropped, what goes back to the medium.

May import core.base and core.pages.
"""
