"""The table that compares contestants, view by view."""

from __future__ import annotations

import numpy as np

from fedjax_kd.report.comparison_table import Column, PolicyTable, Row, column_cells
from fedjax_kd.report.numbers import scale_for
from fedjax_kd.report.rounds_names import metrics_of, row_name
from fedjax_kd.report.rounds_results import Contestant, RoundsResults


def compared_rows(results: RoundsResults) -> list[tuple[Contestant, str]]:
    """Contestants and views of the summary, in the manifest's order."""
    return [
        (each, view)
        for each in results.contestants
        for view in each.views
        if (each.name, view) in results.summary.index
    ]


def contestant_table(results: RoundsResults) -> PolicyTable:
    """Builds the table from the summary; it has no rows where there is no summary.

    Metrics that nobody has are left out; the best of a column is marked.
    """
    pairs = compared_rows(results)
    keys = [(each.name, view) for each, view in pairs]
    columns, cells = [], []
    for metric in metrics_of(results):
        if metric.key not in results.summary.columns or not keys:
            continue
        means = results.summary[metric.key].loc[keys].to_numpy(dtype=float)
        if not np.isfinite(means).any():
            continue
        column = Column(metric, scale_for(metric.kind, means))
        columns.append(column)
        cells.append(column_cells(column, means, halves_of(results, keys, metric.key)))
    rows = [
        Row(
            f"{each.name}/{view}",
            row_name(each, view),
            each == results.proposed and view == each.views[0],
            [column[i] for column in cells],
        )
        for i, (each, view) in enumerate(pairs)
    ]
    return PolicyTable(columns, rows, "Contestant")


def halves_of(results: RoundsResults, keys: list[tuple[str, str]], metric: str) -> np.ndarray:
    """Half widths [rows] of a metric's 95 % intervals; NaN where there is none or it is nil."""
    name = f"{metric}_half"
    if name not in results.summary.columns:
        return np.full(len(keys), np.nan)
    halves = results.summary[name].loc[keys].to_numpy(dtype=float)
    means = np.abs(results.summary[metric].loc[keys].to_numpy(dtype=float))
    # Costs that every seed shares have an interval of rounding errors, which says nothing.
    return np.where(halves > 1e-6 * means, halves, np.nan)
