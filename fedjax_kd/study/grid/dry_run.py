"""What a sweep would do: a table of groups, batches, memory and time. Nothing is trained for it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table

from fedjax_kd.study.grid.estimate import Estimate, estimate
from fedjax_kd.study.grid.plan import Group, balanced

MOST_TRIED = 4  # points of a group, until one can be set up


class Line(NamedTuple):
    """A group as the plan shows it.

    Attributes:
        group: its rows.
        width: most rows of a batch.
        batches: how many there are.
        estimate: what rows take; None where they cannot be set up.
        problem: why not; empty if they can.
    """

    group: Group
    width: int
    batches: int
    estimate: Estimate | None
    problem: str = ""

    @property
    def seconds(self) -> float | None:
        """Of the whole group, one row after the other; None if not measured."""
        if self.estimate is None or self.estimate.row_s is None:
            return None
        return (self.estimate.compile_s or 0.0) + len(self.group.rows) * self.estimate.row_s


def lines_of(
    groups: Sequence[Group],
    width: int,
    measure: Callable[[Group], Estimate],
) -> list[Line]:
    """What there is to say of each group.

    Args:
        groups: rows that are still to be run.
        width: most rows of a batch, wherever they fit.
        measure: estimates what a row of a group takes.
    """
    lines = []
    for group in groups:
        try:
            found, problem = measure(group), ""
        except ValueError as error:
            found, problem = None, " ".join(str(error).split())
        limit = min(width, len(group.rows), found.fitting if found is not None else width)
        limit = max(1, limit)
        lines.append(Line(group, limit, len(balanced(group.rows, limit)), found, problem))
    return lines


def measure_by(data_dir: Path | None, form: str, width: int) -> Callable[[Group], Estimate]:
    """Estimates by a round of the group's first row, or of the first that can be set up."""

    def measure(group: Group) -> Estimate:
        first: dict[int, Any] = {row.point: row for row in reversed(group.rows)}
        *others, last = [first[point].settings for point in sorted(first)][:MOST_TRIED]
        for settings in others:
            with suppress(ValueError):
                return estimate(settings, width, data_dir=data_dir, form=form)
        return estimate(last, width, data_dir=data_dir, form=form)

    return measure


def plan_table(lines: Sequence[Line], title: str) -> Table:
    """The plan for a terminal."""
    table = Table(title=title, title_justify="left", show_footer=True)
    seconds = [line.seconds for line in lines]
    known = [each for each in seconds if each is not None]
    whole = all(line.estimate is not None and line.estimate.compile_s is not None for line in lines)
    total = duration(sum(known)) + ("" if whole else " and more")
    rows = sum(len(line.group.rows) for line in lines)
    batches = sum(line.batches for line in lines)
    columns = (
        ("group", "left", "all"),
        ("the same in all its rows", "left", ""),
        ("rows", "right", str(rows)),
        ("width", "right", ""),
        ("batches", "right", str(batches)),
        ("memory", "right", ""),
        ("time, about", "right", total if known else "not measured"),
    )
    for name, justify, footer in columns:
        table.add_column(name, justify=justify, footer=footer)  # pyright: ignore[reportArgumentType]
    for place, line in enumerate(lines, start=1):
        table.add_row(
            str(place),
            line.problem or _fixed(line.group.fixed),
            str(len(line.group.rows)),
            str(line.width),
            str(line.batches),
            _memory(line),
            _time(line),
        )
    return table


def duration(seconds: float) -> str:
    """Seconds as people say them, e.g. `4 min`."""
    for unit, size in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def _time(line: Line) -> str:
    if line.seconds is None or line.estimate is None:
        return "not measured"
    return duration(line.seconds) + ("" if line.estimate.compile_s is not None else " + compiling")


def _fixed(fixed: Mapping[str, Any]) -> str:
    if not fixed:
        return "all that is not swept"
    texts = (value if isinstance(value, str) else json.dumps(value) for value in fixed.values())
    return ", ".join(f"{path} {text}" for path, text in zip(fixed, texts, strict=True))


def _memory(line: Line) -> str:
    found = line.estimate
    if found is None:
        return ""
    if found.fitting == 0:
        return "too little"
    if found.fixed_bytes is None or found.row_bytes is None:
        return f"for {found.fitting} or more"
    return f"{(found.fixed_bytes + line.width * found.row_bytes) / 2**20:,.0f} MiB"
