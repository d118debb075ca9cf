"""How results look: JSON or tables on standard output, progress on standard error."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

T = TypeVar("T")

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Rich would end the process with 1; that the reader left (`| head`) is no error."""
        raise BrokenPipeError


def console() -> Console:
    """A console that honours NO_COLOR and plain pipes; lines are never cut when nobody looks."""
    return _Console(highlight=False, width=None if sys.stdout.isatty() else 160)


def write_json(value: Any, *, lines: bool = False) -> None:
    """One JSON value on standard output: indented, or on one line and flushed."""
    data = msgspec.json.encode(value)
    sys.stdout.write((data if lines else msgspec.json.format(data, indent=2)).decode() + "\n")
    if lines:
        sys.stdout.flush()


def facts(title: str, rows: Iterable[tuple[str, str]]) -> Table:
    """A table of names and values. Values are shown as they are: markup in them is not read."""
    table = Table(title=escape(title), title_justify="left", show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(escape(name), escape(value))
    return table


def grid(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table with a header."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(escape(column), overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    return table


class _RateColumn(ProgressColumn):
    """How many a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f}/s", style="progress.data.speed")


@contextmanager
def progress(description: str, total: int | None, *, steady: bool = False) -> Iterator[Progress]:
    """A progress bar on standard error, only where a person looks at it; task 0 is the work.

    A `steady` one is drawn only where its caller says so: drawing beside the work would disturb its times.
    """
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _RateColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        auto_refresh=not steady,
        disable=not sys.stderr.isatty(),
    )
    with bar:
        bar.add_task(escape(description), total=total)
        yield bar


def tracked(items: Iterable[T], total: int, description: str) -> Generator[T, None, None]:
    """The items, with a progress bar beside them when there are many."""
    if total < 16:
        yield from items
        return
    with progress(description, total) as bar:
        for item in items:
            yield item
            bar.advance(bar.task_ids[0])
