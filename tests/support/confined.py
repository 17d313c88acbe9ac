"""Run a command without some of what a kernel gives: `python -m tests.support.confined io_uring|threads CMD...`.

A seccomp filter answers io_uring_setup with EPERM, or the creation of threads with EAGAIN (a process limit that is reached).
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import sys

ALLOW, REFUSE = 0x7FFF0000, 0x00050000
LOAD, EQUALS, AND, ANSWER = 0x20, 0x15, 0x54, 0x06
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, FILTER = 22, 38, 2
CLONE_THREAD = 0x10000
IO_URING_SETUP, CLONE3 = 425, 435
CLONE = {"x86_64": 56, "aarch64": 220}[platform.machine()]

Step = tuple[int, int, int, int]
FILTERS: dict[str, list[Step]] = {   # (code, jump if true, jump if false, value); offset 0 is the number, 16 the first argument
    "io_uring": [(LOAD, 0, 0, 0), (EQUALS, 0, 1, IO_URING_SETUP), (ANSWER, 0, 0, REFUSE | errno.EPERM), (ANSWER, 0, 0, ALLOW)],
    "threads": [(LOAD, 0, 0, 0), (EQUALS, 0, 1, CLONE3), (ANSWER, 0, 0, REFUSE | errno.ENOSYS),   # glibc falls back to clone
                (EQUALS, 0, 4, CLONE), (LOAD, 0, 0, 16), (AND, 0, 0, CLONE_THREAD), (EQUALS, 0, 1, CLONE_THREAD),
                (ANSWER, 0, 0, REFUSE | errno.EAGAIN), (ANSWER, 0, 0, ALLOW)],
}


def confine(what: str) -> None:
    """Install a filter for this process and all it starts."""
    libc = ctypes.CDLL(None, use_errno=True)
    steps = b"".join(struct.pack("HBBI", *step) for step in FILTERS[what])
    code = ctypes.create_string_buffer(steps, len(steps))
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(FILTERS[what]), ctypes.addressof(code)))
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(PR_SET_SECCOMP, FILTER, program, 0, 0):
        raise OSError(ctypes.get_errno(), "cannot install a seccomp filter")


if __name__ == "__main__":
    confine(sys.argv[1])
    os.execvp(sys.argv[2], sys.argv[2:])
