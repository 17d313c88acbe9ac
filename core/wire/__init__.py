"""The data plane: from a logged-in socket to the pool and back, natively.

May import `core.base` and the engine's turn (`core.pool`); nothing in core imports it.
"""
