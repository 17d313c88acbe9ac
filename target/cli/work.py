"""Work on the whole pool in the background, as commands: started and watched, left alone, asked for, stopped."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import click

from target.cli.request import SIZE, connect, json_option
from target.client import Client, Told
from target.config import format_size
from target.errors import LunetteError

Json = dict[str, Any]
LOOK_SECONDS = 0.2


def background_options(rate_help: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The options of such a command."""
    options = (click.option("--rate", "rate_bytes", type=SIZE, default=0, help=rate_help),
               click.option("--background", is_flag=True, help="Start it and return."),
               click.option("--status", "only_status", is_flag=True, help="Show how the last one stands."),
               click.option("--stop", is_flag=True, help="Stop the one that runs."), json_option)

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            function = option(function)
        return function
    return decorate


def work(ctx: click.Context, path: str, progress: Callable[[Json], str], *, rate_bytes: int, background: bool, only_status: bool,
         stop: bool, **what: Any) -> Json:
    """Do what the options ask, `what` belongs to the work; its state, in the end or now."""
    client = connect(ctx)
    state: Json
    if stop:
        state = client.delete(path)
        return state
    if only_status:
        state = client.get(path)
        return state
    state = client.post(path, {"rate_bytes": rate_bytes, **what})
    if background or state["state"] != "running":
        return state
    with _shown(path.rpartition("/")[2]) as show:
        while state["state"] == "running":
            time.sleep(LOOK_SECONDS)
            state = client.get(path)
            if show is not None:
                jobs = [row for row in client.get("/v1/jobs") if path.endswith(row["kind"]) and row["state"] == "running"]
                show(jobs[-1]["percent"] if jobs else None, progress(state))
    return state


@contextlib.contextmanager
def bar(title: str) -> Iterator[Callable[[float | None, str], None]]:
    """What shows percent and words: a bar on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda percent, words: None
        return
    from target.cli.terminal import Bar

    with Bar(title) as show:
        yield show


@contextlib.contextmanager
def reported(client: Client, kind: str, **query: str) -> Iterator[Told]:
    """Work of this process's as a job of the daemon's, with a bar on a terminal: call what is yielded with how far it is."""
    with client.job(kind, **query) as tell, bar(kind) as show:
        def told(done: int, total: int | None = None, moved: int = 0) -> None:
            tell(done, total, moved)
            show(100 * done / total if total else None, format_size(moved) if moved else "")

        yield told


@contextlib.contextmanager
def job_shown(client: Client, kind: str) -> Iterator[None]:
    """A bar of the job of that kind that began last, while the block waits for it: on a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    over = threading.Event()

    def look() -> None:
        with Bar(kind) as show:
            while not over.wait(LOOK_SECONDS):
                with contextlib.suppress(LunetteError):
                    rows = [row for row in client.get("/v1/jobs") if row["kind"] == kind and row["state"] == "running"]
                    if rows:
                        show(rows[-1]["percent"], f"{format_size(int(rows[-1]['rate_per_second']))}/s")

    from target.cli.terminal import Bar

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextlib.contextmanager
def _shown(title: str) -> Iterator[Callable[[float | None, str], None] | None]:
    """A bar, on a terminal."""
    if not sys.stdout.isatty():
        yield None
        return
    from target.cli.terminal import Bar

    with Bar(title) as show:
        yield show
