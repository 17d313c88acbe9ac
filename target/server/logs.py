"""How the log looks: lines with times for people, with priorities for journald, or JSON for machines. All of it on stderr."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import sys
import time
from collections.abc import Mapping
from typing import IO

BUFFER_BYTES = 65536
PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.DEBUG, 7))  # syslog(3)


class LineFormatter(logging.Formatter):
    """For people: local time, part and level before the message. A second's time is made once, for thousands of lines."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(name)s %(levelname)s: %(message)s")
        self._second = (-1, "")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        second, text = self._second
        if int(record.created) != second:
            second = int(record.created)
            text = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))
            self._second = second, text
        return f"{text},{int(record.msecs):03d}"


class JournalFormatter(logging.Formatter):
    """`<N>` before each line says its priority; journald knows the time and the process (sd-daemon(3))."""

    def __init__(self) -> None:
        super().__init__("%(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        level = next((number for least, number in PRIORITIES if record.levelno >= least), 7)
        return "\n".join(f"<{level}>{line}" for line in super().format(record).splitlines())


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (RFC 3339, UTC), level, part, message, and the traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        row = {"time": stamp, "level": record.levelname.lower(), "part": record.name, "message": record.getMessage()}
        if record.exc_info:
            row["traceback"] = self.formatException(record.exc_info)
        return json.dumps(row, ensure_ascii=False, separators=(",", ":"))


def formatter(*, as_json: bool, stream: IO[str], environment: Mapping[str, str]) -> logging.Formatter:
    """The one that suits where the lines go."""
    if as_json:
        return JsonFormatter()
    if _is_journal(stream, environment):
        return JournalFormatter()
    return LineFormatter()


class Stderr(logging.StreamHandler[IO[str]]):
    """Lines go to stderr once a turn of the event loop, together; warnings and worse, and what no loop sees, at once."""

    def __init__(self) -> None:
        super().__init__(io.TextIOWrapper(io.BufferedWriter(io.FileIO(2, "w", closefd=False), BUFFER_BYTES), encoding="utf-8",
                                          errors="backslashreplace"))
        self._due = False
        self._urgent = True

    def emit(self, record: logging.LogRecord) -> None:
        self._urgent = record.levelno >= logging.WARNING
        super().emit(record)

    def flush(self) -> None:
        """What `emit` does after each line."""
        loop = None if self._urgent else asyncio._get_running_loop()
        if loop is None:
            self._now()
        elif not self._due:
            self._due = True
            loop.call_soon(self._now)

    def _now(self) -> None:
        self._due = False
        super().flush()


def begin(*, verbose: bool, as_json: bool) -> None:
    """Log to stderr from now on."""
    handler = Stderr()
    handler.setFormatter(formatter(as_json=as_json, stream=sys.stderr, environment=os.environ))
    logging._srcfile = None         # no line says where in the code it was written, nor by which thread, nor
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False      # is that worth a third of its cost
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler])
    logging.getLogger("asyncio").setLevel(logging.INFO)


def _is_journal(stream: IO[str], environment: Mapping[str, str]) -> bool:
    """Whether the stream is the one that systemd connected with the journal ($JOURNAL_STREAM, systemd.exec(5))."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environment.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"
