"""The pool as the control plane sees it: the only package of target that imports core."""
