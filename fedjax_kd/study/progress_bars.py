"""Progress as bars on a terminal: one for each stage, and for a grid one above them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from fedjax_kd.study.progress_event import Event, Show
from fedjax_kd.study.progress_lines import batch_of, speed, time_left


@contextmanager
def bars(stream: TextIO | None = None) -> Iterator[Show]:
    """Shows a bar for each stage on a terminal, and keeps the bars when the study ends.

    In a grid the bars of a batch go when the next one begins, and one bar counts the rows.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars
    from rich.table import Column

    console = Console(file=stream or sys.stderr)
    width = 28 if console.width >= 100 else 16
    columns = [
        TextColumn("{task.description}", table_column=Column(no_wrap=True, max_width=width)),
        BarColumn(bar_width=12, table_column=Column(min_width=6)),
        MofNCompleteColumn(table_column=Column(no_wrap=True, min_width=7)),
        TimeElapsedColumn(table_column=Column(no_wrap=True, min_width=7)),
        # The first words are the ones that a narrow terminal keeps.
        TextColumn("[dim]{task.fields[news]}", table_column=Column(no_wrap=True, ratio=1)),
    ]
    with Bars(*columns, console=console, expand=True) as live:
        yield _shown_as_bars(live, console)


def _shown_as_bars(live: Any, console: Any) -> Show:
    from rich.markup import escape

    def words(*parts: str) -> str:
        return escape(", ".join(part for part in parts if part))

    tasks: dict[str, Any] = {}
    grid: list[Any] = []  # the bar that counts rows, once there is one
    batch: int | None = None

    def show_grid(event: Event) -> None:
        nonlocal batch
        if event.batch != batch:
            for task in tasks.values():
                live.remove_task(task)
            tasks.clear()
            batch = event.batch
        if not grid:
            grid.append(live.add_task("grid", total=event.total, news=""))
        lost = f"{event.failed} failed" if event.failed else ""
        live.update(
            grid[0], completed=event.done, news=words(time_left(event), batch_of(event), lost)
        )

    def show(event: Event) -> None:
        if event.kind == "note":
            console.print(event.note, markup=False, highlight=False)
        elif event.kind == "grid":
            show_grid(event)
        elif event.kind == "start":
            tasks[event.stage] = live.add_task(event.stage, total=event.total, news="")
        else:
            news = words(time_left(event), event.note, speed(event))
            total, done = event.total, event.done
            if event.kind == "end":
                total = event.total or max(event.done, 1)
                done = event.done or total
            live.update(tasks[event.stage], completed=done, total=total, news=news)

    return show
