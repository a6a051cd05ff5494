"""The table that compares policies, or contestants, for a page and as Markdown, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np

from fedjax_kd.report.comparison_table import (
    Column,
    PolicyTable,
    Row,
    column_cells,
    latex_text,
    markdown_text,
)
from fedjax_kd.report.names import METRICS, PROPOSED, policy_name, policy_order
from fedjax_kd.report.numbers import scale_for
from fedjax_kd.report.results import Results, load_results
from fedjax_kd.report.rounds_results import RoundsResults
from fedjax_kd.report.rounds_table import contestant_table


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
        halves = np.array([half_interval(results, policy, metric.key) for policy in policies])
        column = Column(metric, scale_for(metric.kind, means))
        columns.append(column)
        cells.append(column_cells(column, means, halves))
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


def policy_table_markdown(results_dir: Path) -> str:
    """The comparison as a Markdown table: mean ± half the 95 % interval, best in bold.

    Args:
        results_dir: the folder of one finished study; of a rounds study, contestants are compared.

    Returns:
        The table with a line end after its last row; empty where the study has no summary.

    Raises:
        ReportError: as `render_report`.
    """
    return markdown_text(_table_of(load_results(results_dir)))


def policy_table_latex(results_dir: Path) -> str:
    """The comparison as a LaTeX `tabular` for the booktabs package, best in bold.

    Args:
        results_dir: the folder of one finished study; of a rounds study, contestants are compared.

    Raises:
        ReportError: as `render_report`.
    """
    return latex_text(_table_of(load_results(results_dir)))


def _table_of(results: Results | RoundsResults) -> PolicyTable:
    return (
        contestant_table(results) if isinstance(results, RoundsResults) else policy_table(results)
    )


def policy_table_csv(results_dir: Path) -> str:
    """The comparison in full precision and SI units, with the intervals.

    Args:
        results_dir: the folder of one finished study.

    Returns:
        CSV text in the order of the report. Policies: `policy`, `name`, then each metric, `_low`,
        `_high`. Contestants: `contestant`, `view`, `name`, then each metric and its `_half`.

    Raises:
        ReportError: as `render_report`.
    """
    results = load_results(results_dir)
    table = _table_of(results)
    rounds = isinstance(results, RoundsResults)
    ends = ("", "_half") if rounds else ("", "_low", "_high")
    columns = [f"{column.metric.key}{end}" for column in table.columns for end in ends]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*(("contestant", "view") if rounds else ("policy",)), "name", *columns])
    for row in table.rows:
        key = tuple(row.policy.split("/", 1)) if rounds else row.policy
        numbers = results.summary.loc[key].reindex(columns)
        written = (repr(float(value)) if np.isfinite(value) else "" for value in numbers)
        writer.writerow([*(key if isinstance(key, tuple) else (key,)), row.name, *written])
    return stream.getvalue()
