"""Policies have no rounds: bars of accuracy and costs, each policy at its best setting."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedjax_kd.report.drawing import Layout, new_figure, value_grid
from fedjax_kd.report.errors import NothingToShow
from fedjax_kd.report.grid_names import COST_QUANTITIES, POLICY, Quantity, quantity
from fedjax_kd.report.grid_tables import estimate_of, line_of
from fedjax_kd.report.grid_values import Best, Findings
from fedjax_kd.report.numbers import scale_for
from fedjax_kd.report.palette import INK
from fedjax_kd.report.pictures.contestant_lines import name_lines
from fedjax_kd.report.pictures.grid_looks import look_of, shown_best, title_of


def draw_bars(findings: Findings, layout: Layout) -> Figure:
    """One panel for the accuracy and one for each cost, one bar per policy, best first."""
    shown = [best for best in shown_best(findings) if best.scope.startswith(POLICY)]
    if not shown:
        raise NothingToShow("The results hold no policies.")
    known = [quantity(f"{findings.counted}_last"), *COST_QUANTITIES]
    known = [each for each in known if each.key in findings.summary.columns]
    down = len(known) if layout.narrow else 1
    figure = new_figure(layout, (0.3 * len(shown) + 0.75) * down + 0.2)
    grid = figure.subplots(down, len(known) // down, squeeze=False, sharey=not layout.narrow)
    for index, (axes, each) in enumerate(zip(grid.flat, known, strict=True)):
        _draw_panel(axes, findings, shown, each)
        names = [title_of(findings, best.scope) for best in shown]
        name_lines(axes, names, 22 if layout.narrow else 26)
        if index and not layout.narrow:
            axes.tick_params(axis="y", labelleft=False)
    return figure


def _draw_panel(axes: Axes, findings: Findings, shown: list[Best], each: Quantity) -> None:
    found = [estimate_of(line_of(findings, b.scope, b.point), each.key) for b in shown]
    scale = scale_for(each.kind, [estimate.value for estimate in found])
    for row, (best, estimate) in enumerate(zip(shown, found, strict=True)):
        if not np.isfinite(estimate.value):
            continue
        value, low, high = np.array(estimate[:3]) / scale.divisor
        axes.barh(row, value, height=0.62, color=look_of(findings, best.scope).colour, alpha=0.85)
        if np.isfinite(low):
            axes.plot([low, high], [row, row], color=INK, linewidth=1.4)
    title = "Accuracy" if each.kind == "fraction" else each.title
    axes.set_title(f"{title} [{scale.unit}]")
    axes.set_xlim(left=0)
    value_grid(axes)
