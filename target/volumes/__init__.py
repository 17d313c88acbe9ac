"""The pool as the control plane sees it: its one way to the block core, the catalog, and what is kept in the key store.

What of `target` imports `core` besides stands in docs/architecture.md, "Imports run downwards".
"""
