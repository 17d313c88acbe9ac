"""What only a terminal gets: tables with colour, bars. Imports rich, which is imported by nobody else."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.measure import Measurement
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

COLOURS = {"snapshot": "cyan", "clone": "magenta", "volume": "bold", "running": "green", "failed": "red", "damaged": "red",
           "cancelled": "yellow", "paused": "yellow"}

WIDEST = 100_000        # characters of a row


def show_table(rows: list[list[Any]], headers: list[str], right: frozenset[str]) -> None:
    """Rows under headers, each on a line of its own, which a narrow terminal wraps: words in pieces are read by nobody.

    Where they do not fit, columns in which no row has anything are left out.
    """
    console = Console()
    table = _table(rows, headers, right)
    if _width(console, table) > console.width:
        some = [index for index in range(len(headers)) if not rows or any(row[index] not in (None, "", "-") for row in rows)]
        table = _table([[row[index] for index in some] for row in rows], [headers[index] for index in some], right)
    console.width = max(console.width, _width(console, table))
    console.print(table)


def _table(rows: list[list[Any]], headers: list[str], right: frozenset[str]) -> Table:
    table = Table(box=None, header_style="bold underline", pad_edge=False)
    for header in headers:
        table.add_column(header, justify="right" if header in right else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(_cell(each) for each in row))
    return table


def _width(console: Console, table: Table) -> int:
    """Columns of a terminal that it wants."""
    return Measurement.get(console, console.options.update(max_width=WIDEST), table).maximum


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
