"""The best setting of every scope: a dot and its interval."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from fedjax_kd.report.drawing import Layout, new_figure, plain, value_grid
from fedjax_kd.report.grid_names import setting_text
from fedjax_kd.report.grid_tables import estimate_of, line_of
from fedjax_kd.report.grid_values import Findings
from fedjax_kd.report.palette import MUTED
from fedjax_kd.report.pictures.contestant_lines import name_lines
from fedjax_kd.report.pictures.grid_looks import look_of, shown_best, title_of

_ROW_IN = 0.42


def draw_best(findings: Findings, layout: Layout) -> Figure:
    """One row per scope, best first: filled at the best round, hollow after the last."""
    shown = shown_best(findings)
    figure = new_figure(layout, _ROW_IN * len(shown) + 0.95)
    axes = figure.subplots()
    ends = []
    for row, best in enumerate(shown):
        look = look_of(findings, best.scope)
        line = line_of(findings, best.scope, best.point)
        last = estimate_of(line, f"{findings.counted}_last")
        drawn = [(best.estimate, False, -0.13)]
        if findings.only_policies:
            drawn = [(best.estimate, False, 0.0)]
        elif np.isfinite(last.value):
            drawn.append((last, True, 0.13))
        for estimate, hollow, shift in drawn:
            numbers = 100 * np.array(estimate[:3])
            ends += list(numbers[np.isfinite(numbers)])
            if np.isfinite(numbers[1]):
                axes.plot(
                    numbers[1:], [row + shift] * 2, color=look.colour, linewidth=1.8, alpha=0.6
                )
            axes.plot(
                numbers[0],
                row + shift,
                look.marker,
                color=look.colour,
                markersize=look.size + 1,
                markerfacecolor="white" if hollow else look.colour,
                markeredgecolor=look.colour if hollow else "white",
                markeredgewidth=1.3 if hollow else 0.6,
                zorder=3,
            )
    names = [title_of(findings, best.scope) for best in shown]
    name_lines(axes, names, 18 if layout.narrow else 32)
    low, high = min(ends), max(ends)
    margin = max(0.06 * (high - low), 0.5)
    axes.set_xlim(low - margin, high + margin)
    if not layout.narrow:
        twin = axes.twinx()
        twin.set_ylim(axes.get_ylim())
        texts = [_setting(findings, best.scope, best.point) for best in shown]
        twin.set_yticks(range(len(shown)), texts)
        twin.tick_params(axis="y", length=0, labelcolor=MUTED)
        twin.spines["left"].set_visible(False)
    value_grid(axes)
    axes.set_xlabel(f"{findings.counted.capitalize()} accuracy [%]")
    return figure


def _setting(findings: Findings, scope: str, point: int) -> str:
    axes = findings.naming_axes(scope)
    return plain(setting_text(findings.comparison, point, axes), 52) if axes else ""
