"""The data plane: from a logged-in socket to the pool and back, natively.

May import `core._types` and the engine's turn (`core._engine`); nothing in core imports it.
"""
