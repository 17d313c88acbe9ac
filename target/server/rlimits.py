"""What the system must allow a daemon: limits are raised as far as they go; what is too small is named, with the remedy."""

from __future__ import annotations

import errno
import resource

from target.errors import LunetteError

FILES_NEEDED = 4608      # a ring's table of 4096 connections is bounded by this limit, and there are files beside them
FILES_WANTED = 65536
FILES_REMEDY = ("raise it: LimitNOFILE=65536 in a systemd unit, --ulimit nofile=65536 for a container, else `ulimit -Hn 65536` "
                "as root")
REMEDIES: dict[int, str] = {
    errno.EMFILE: f"the limit of open files (nofile) is reached; {FILES_REMEDY}",
    errno.ENFILE: "the system's limit of open files is reached; raise the sysctl fs.file-max",
    errno.EAGAIN: "no thread can be started: the limit of processes and threads is reached; raise TasksMax= in a systemd unit, "
                  "--pids-limit for a container, else nproc (`ulimit -u`)",
    errno.EPERM: "io_uring is forbidden: allow io_uring_setup, io_uring_enter and io_uring_register in the container's seccomp "
                 "profile, or set the sysctl kernel.io_uring_disabled to 0",
    errno.ENOSYS: "io_uring is not there: the kernel is older than 5.19 or a seccomp profile hides it",
    errno.ENOMEM: "memory for the rings cannot be had: too little is free, or the limit of locked memory (memlock) is too small; "
                  "raise LimitMEMLOCK= in a systemd unit, --ulimit memlock for a container, else `ulimit -l`",
}


def raise_limits() -> None:
    """Allow as many open files as the hard limit does. LunetteError limit: that is too few."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if hard != unlimited and hard < FILES_NEEDED:
        raise LunetteError("limit", f"the hard limit of open files (nofile) is {hard}, and the daemon needs {FILES_NEEDED}; "
                                    + FILES_REMEDY)
    wanted = FILES_WANTED if hard == unlimited else min(hard, FILES_WANTED)
    if soft != unlimited and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def explain(error: OSError) -> LunetteError:
    """Why the data plane cannot start, and what helps."""
    remedy = REMEDIES.get(error.errno or 0)
    return LunetteError("limit" if remedy else "invalid", f"cannot start the data plane: {remedy or error}")
