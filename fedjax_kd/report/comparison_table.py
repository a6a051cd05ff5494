"""A table whose rows are compared metric by metric: its cells, and it as Markdown and LaTeX."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fedjax_kd.report.names import Metric
from fedjax_kd.report.numbers import Scale


class Cell(NamedTuple):
    """One number: as it is, as it is written, and half its interval's width as it is written."""

    value: float
    text: str
    half: str
    best: bool


class Column(NamedTuple):
    """One metric with the unit that all its cells share."""

    metric: Metric
    scale: Scale

    @property
    def head(self) -> str:
        """Title and unit."""
        unit = f" [{self.scale.unit}]" if self.scale.unit else ""
        return f"{self.metric.title}{unit}"


class Row(NamedTuple):
    """One policy, or one contestant and view."""

    policy: str
    name: str
    proposed: bool
    cells: list[Cell]


class PolicyTable(NamedTuple):
    """Metrics that the summary has, as columns; what is compared as rows, in the report's order."""

    columns: list[Column]
    rows: list[Row]
    head: str = "Policy"


def column_cells(column: Column, means: np.ndarray, halves: np.ndarray) -> list[Cell]:
    """The cells of one column.

    Args:
        column: metric and unit.
        means: [rows] in SI units, NaN where there is none.
        halves: [rows] half widths of the intervals, NaN where there is none.

    Returns:
        Cells in the order of the rows; the best is marked, and several where they are equal.
    """
    known = means[np.isfinite(means)]
    best = (known.max() if column.metric.better == "high" else known.min()) if known.size else 0.0
    return [
        Cell(
            float(mean),
            column.scale.text(mean),
            column.scale.text(half) if np.isfinite(half) else "",
            bool(mean == best),
        )
        for mean, half in zip(means, halves, strict=True)
    ]


def markdown_text(table: PolicyTable) -> str:
    """The table in Markdown: mean ± half the 95 % interval, best in bold; empty without rows."""
    if not table.rows:
        return ""
    lines = [
        [table.head, *(column.head for column in table.columns)],
        ["---", *("---:" for _ in table.columns)],
    ]
    for row in table.rows:
        name = row.name.replace("|", "\\|")
        written = [_markdown_cell(cell) for cell in row.cells]
        lines.append([f"**{name}**" if row.proposed else name, *written])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _markdown_cell(cell: Cell) -> str:
    text = f"{cell.text} ± {cell.half}" if cell.half else cell.text
    return f"**{text}**" if cell.best else text


_LATEX = {
    "\\": r"\textbackslash{}",
    **{char: f"\\{char}" for char in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "−": "$-$",
    "–": "--",
}


def latex_text(table: PolicyTable) -> str:
    """The table as a LaTeX `tabular` for the booktabs package, best in bold."""
    head = " & ".join(
        latex_plain(text) for text in (table.head, *(each.head for each in table.columns))
    )
    lines = [rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}", r"\toprule", rf"{head} \\"]
    lines.append(r"\midrule")
    for row in table.rows:
        cells = []
        for cell in row.cells:
            mean = latex_plain(cell.text)
            mean = rf"\textbf{{{mean}}}" if cell.best else mean
            cells.append(rf"{mean} $\pm$ {latex_plain(cell.half)}" if cell.half else mean)
        lines.append(rf"{' & '.join([latex_plain(row.name), *cells])} \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def latex_plain(text: str) -> str:
    """Words as LaTeX prints them."""
    return "".join(_LATEX.get(char, char) for char in text)
