"""A table of a comparison, and the same as CSV (in full precision) and LaTeX (as it is shown)."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from fedjax_kd.report.comparison_table import latex_plain
from fedjax_kd.report.grid_statistics import Estimate
from fedjax_kd.report.numbers import Scale

MOST_ROWS = 200  # that a page shows of one table


class Entry(NamedTuple):
    """What a cell says and by what it is sorted; an interval stands beside a number."""

    text: str
    sort: str | float
    number: bool = False
    interval: str = ""
    best: bool = False


class GridTable(NamedTuple):
    """A table; `full` holds what its CSV says, in SI units."""

    name: str
    title: str
    head: list[str]
    rows: list[list[Entry]]
    full: dict[str, list]
    note: str = ""
    folded: bool = False

    @property
    def shown(self) -> list[list[Entry]]:
        """The rows that the page shows."""
        return self.rows[:MOST_ROWS]

    @property
    def numbers(self) -> list[bool]:
        """Which columns hold numbers."""
        return [any(row[i].number for row in self.rows) for i in range(len(self.head))]


def words(value: object) -> Entry:
    """A cell of words."""
    return Entry(str(value), str(value))


def whole(value: float) -> Entry:
    """A cell with a count."""
    known = np.isfinite(value)
    return Entry(f"{value:,.0f}" if known else "–", float(value), number=True)


def estimated(estimate: Estimate, scale: Scale, best: bool = False) -> Entry:
    """A cell with an interquartile mean and its interval."""
    text, interval = scale.text(estimate.value), ""
    if np.isfinite(estimate.low):
        interval = f"[{scale.text(estimate.low)}, {scale.text(estimate.high)}]"
    return Entry(text, float(estimate.value), True, interval, best)


def csv_text(table: GridTable) -> str:
    """All rows with full precision; empty where there is no number."""
    return pd.DataFrame(table.full).to_csv(index=False, lineterminator="\n")


def latex_text(table: GridTable) -> str:
    """All rows as a LaTeX `tabular` for the booktabs package, as they are shown, best in bold."""
    numbers = table.numbers
    columns = "".join("r" if number else "l" for number in numbers)
    lines = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule"]
    lines += [_line(latex_plain(text) for text in table.head), r"\midrule"]
    for row in table.rows:
        cells = []
        for entry in row:
            text = latex_plain(entry.text)
            text = rf"\textbf{{{text}}}" if entry.best else text
            # Braces, since a bracket at the start of a row would be read as an argument of \\.
            cells.append(f"{text} {{{latex_plain(entry.interval)}}}" if entry.interval else text)
        lines.append(_line(cells))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _line(cells: Sequence[str] | object) -> str:
    return rf"{' & '.join(cells)} \\"  # pyright: ignore


def data_uri(text: str, kind: str) -> str:
    """A link that holds a file itself.

    Args:
        text: the file.
        kind: its media type, e.g. `text/csv`.
    """
    return f"data:{kind};charset=utf-8;base64,{base64.b64encode(text.encode()).decode()}"
