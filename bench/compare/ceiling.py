"""The suite ceiling: what fio's libiscsi engine can reach against a target without any cost, beside what it reaches."""

import multiprocessing
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from bench import _bare, clients
from bench.compare.basic import CASES, Case
from bench.compare.lab import PAIR, Lab
from bench.measure import Record, Run
from bench.targets import Target

PAUSES_US = (0, 30, 60, 120)    # of the answering side; with longer ones the initiator waits
CEILING = "ceiling"
FORK = multiprocessing.get_context("fork")


def serve(listener: socket.socket, write: bool, pause_us: int) -> None:
    """What the answering process does: one connection until its end."""
    sock, _ = listener.accept()
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    _bare.answer(sock.fileno(), write=write, pause_us=pause_us)


@contextmanager
def answering(write: bool, pause_us: int) -> Iterator[tuple[int, socket.socket]]:
    """(process id, connection) of a process that answers for as long as the connection stands."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        process = FORK.Process(target=serve, args=(listener, write, pause_us))
        process.start()
        sock = socket.create_connection(listener.getsockname())
    assert process.pid is not None
    try:
        with sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setblocking(False)
            yield process.pid, sock
    finally:
        process.join()


def drive(sock: socket.socket, write: bool, depth: int, seconds: float) -> Record:
    """The bare initiator on a connection to `answering`."""
    started = time.monotonic()
    count = _bare.initiate(sock.fileno(), write=write, depth=depth, seconds=seconds)
    return clients.rates(count, time.monotonic() - started, 4096)


def best(run: Run, name: str, case: Case, rep: int) -> float:
    """Measure the bare pair with every pause and keep the fastest once more as the ceiling; its IOPS."""
    found, write = [], "write" in case.rw
    for pause_us in PAUSES_US:
        with answering(write, pause_us) as (pid, sock):
            found.append(run.load(pid, partial(drive, sock, write, case.depth, run.plan.seconds), case=name,
                                  medium="tmpfs", target=f"no target, pause {pause_us} us", rep=rep))
    fastest = max(found, key=lambda record: float(record["iops"]))
    return float(run.add(**fastest | {"target": CEILING})["iops"])


def ceiling(run: Run) -> None:
    """The system calls of fio's libiscsi engine alone against answers that cost nothing, beside targets by fio."""
    if clients.engine() != "fio":
        run.note("ceiling: left out, it is that of fio")
        return
    with Lab(run, "tmpfs", only=PAIR) as lab:
        urls = lab.luns(run.plan.size_mib)
        for name in ("read-4k-qd32", "write-4k-qd32"):
            beside(run, name, lab.targets, urls)


def beside(run: Run, name: str, targets: list[Target], urls: dict[str, str]) -> None:
    """One case of the ceiling and of the targets by turns; each record's share of the ceiling of its round."""
    case = CASES[name]
    ceilings: dict[int, float] = {}

    def body(target: Target | None, rep: int) -> None:
        if target is None:
            ceilings[rep] = best(run, name, case, rep)
        else:
            run.io(target.pid, [case.job(urls[target.label], run.plan.size_mib)], case=name, medium="tmpfs",
                   target=target.label, rep=rep)
    run.interleave([None, *targets], body, case.repeats(run))
    for record in run.records:
        if record["case"] == name:
            record["of_ceiling"] = record["iops"] / ceilings[record["rep"]]
