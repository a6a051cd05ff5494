"""The table that compares policies, as cells for a page and as Markdown, CSV and LaTeX text."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fedjax_kd.report.names import METRICS, PROPOSED, Metric, policy_name, policy_order
from fedjax_kd.report.numbers import Scale, scale_for
from fedjax_kd.report.results import Results, load_results


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
    """One policy."""

    policy: str
    name: str
    proposed: bool
    cells: list[Cell]


class PolicyTable(NamedTuple):
    """Metrics that the summary has, as columns; policies as rows, in the report's order."""

    columns: list[Column]
    rows: list[Row]


def policy_table(results: Results) -> PolicyTable:
    """Builds the table from the summary; it has no rows where there is no summary.

    Metrics that no policy has are left out. The best of a column is marked (several, where they are
    equal), the ones that are worse by less than what is written are not.
    """
    summary = results.summary
    policies = [policy for policy in policy_order(results) if policy in summary.index]
    columns, cells = [], []
    for metric in METRICS:
        if metric.key not in summary.columns or summary[metric.key].isna().all():
            continue
        means = summary[metric.key].reindex(policies).to_numpy(dtype=float)
        column = Column(metric, scale_for(metric.kind, means))
        columns.append(column)
        cells.append(_column_cells(results, column, policies, means))
    rows = [
        Row(policy, policy_name(policy), policy == PROPOSED, [column[i] for column in cells])
        for i, policy in enumerate(policies)
    ]
    return PolicyTable(columns, rows)


def half_interval(results: Results, policy: str, metric: str) -> float:
    """Half the width of a metric's 95 % interval; NaN where the summary has none."""
    ends = [f"{metric}_low", f"{metric}_high"]
    if policy not in results.summary.index or not set(ends) <= set(results.summary.columns):
        return np.nan
    low, high = (float(results.summary[end].loc[policy]) for end in ends)
    return (high - low) / 2


def _column_cells(
    results: Results, column: Column, policies: list[str], means: np.ndarray
) -> list[Cell]:
    known = means[np.isfinite(means)]
    best = (known.max() if column.metric.better == "high" else known.min()) if known.size else 0.0
    cells = []
    for policy, mean in zip(policies, means, strict=True):
        half = half_interval(results, policy, column.metric.key)
        cells.append(
            Cell(
                float(mean),
                column.scale.text(mean),
                column.scale.text(half) if np.isfinite(half) else "",
                bool(mean == best),
            )
        )
    return cells


def policy_table_markdown(results_dir: Path) -> str:
    """The policy comparison as a Markdown table: mean ± half the 95 % interval, best in bold.

    Args:
        results_dir: the folder of one finished study.

    Returns:
        The table with a line end after its last row; empty where the study has no summary.

    Raises:
        ReportError: as `render_report`.
    """
    table = policy_table(load_results(results_dir))
    if not table.rows:
        return ""
    lines = [
        ["Policy", *(column.head for column in table.columns)],
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


def policy_table_csv(results_dir: Path) -> str:
    """The policy comparison in full precision and SI units, with the intervals' ends.

    Args:
        results_dir: the folder of one finished study.

    Returns:
        CSV text in the order of the report: `policy`, `name`, then each metric, `_low`, `_high`.

    Raises:
        ReportError: as `render_report`.
    """
    results = load_results(results_dir)
    table = policy_table(results)
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    keys = [column.metric.key for column in table.columns]
    writer.writerow(
        ["policy", "name", *(f"{key}{end}" for key in keys for end in ("", "_low", "_high"))]
    )
    for row in table.rows:
        numbers = results.summary.loc[row.policy].reindex(
            [f"{key}{end}" for key in keys for end in ("", "_low", "_high")]
        )
        written = (repr(float(value)) if np.isfinite(value) else "" for value in numbers)
        writer.writerow([row.policy, row.name, *written])
    return stream.getvalue()


_LATEX = {
    "\\": r"\textbackslash{}",
    **{char: f"\\{char}" for char in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "−": "$-$",
    "–": "--",
}


def policy_table_latex(results_dir: Path) -> str:
    """The policy comparison as a LaTeX `tabular` for the booktabs package, best in bold.

    Args:
        results_dir: the folder of one finished study.

    Raises:
        ReportError: as `render_report`.
    """
    table = policy_table(load_results(results_dir))
    head = " & ".join(_latex(text) for text in ("Policy", *(each.head for each in table.columns)))
    lines = [rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}", r"\toprule", rf"{head} \\"]
    lines.append(r"\midrule")
    for row in table.rows:
        cells = []
        for cell in row.cells:
            mean = _latex(cell.text)
            mean = rf"\textbf{{{mean}}}" if cell.best else mean
            cells.append(rf"{mean} $\pm$ {_latex(cell.half)}" if cell.half else mean)
        lines.append(rf"{' & '.join([_latex(row.name), *cells])} \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _latex(text: str) -> str:
    return "".join(_LATEX.get(char, char) for char in text)
