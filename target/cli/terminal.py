"""What only a terminal gets: tables with colour, bars. Imports rich, which is imported by nobody else."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

COLOURS = {"snapshot": "cyan", "clone": "magenta", "volume": "bold", "running": "green", "failed": "red", "damaged": "red",
           "cancelled": "yellow", "paused": "yellow"}


def show_table(rows: list[list[Any]], headers: list[str], right: frozenset[str]) -> None:
    """Rows under headers; what is wider than the terminal is folded."""
    table = Table(box=None, header_style="bold underline", pad_edge=False)
    for header in headers:
        table.add_column(header, justify="right" if header in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(each) for each in row))
    Console().print(table)


def _cell(value: Any) -> Text:
    text = "-" if value is None or value == "" else str(value)
    return Text(text, style=COLOURS.get(text, "dim" if text == "-" else ""))


class Bar:
    """One bar on stderr for as long as the block lasts; `show` takes percent, or None, and words."""

    def __init__(self, title: str) -> None:
        self._progress = Progress(TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>5.1f} %"),
                                  TextColumn("{task.fields[words]}"), console=Console(file=sys.stderr), transient=True)
        self._task = self._progress.add_task(title, total=100.0, words="")

    def __enter__(self) -> Callable[[float | None, str], None]:
        self._progress.start()
        return self.show

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, percent: float | None, words: str) -> None:
        self._progress.update(self._task, completed=percent or 0.0, words=words)
