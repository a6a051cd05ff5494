"""Accuracy at the best setting of every scope, against rounds, seconds, joules or bits."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from fedjax_kd.report.drawing import Draw, Layout, new_figure
from fedjax_kd.report.errors import NothingToShow
from fedjax_kd.report.grid_courses import Against, curve_against
from fedjax_kd.report.grid_values import Findings
from fedjax_kd.report.numbers import scale_for
from fedjax_kd.report.pictures.contestant_lines import rounds_axis
from fedjax_kd.report.pictures.grid_looks import (
    legend_below,
    legend_height,
    log_axis,
    look_of,
    per_cent_axis,
    shown_best,
    title_of,
)


def curves_drawing(against: Against) -> Draw:
    """What draws the curves against one thing."""

    def draw(findings: Findings, layout: Layout) -> Figure:
        return _draw(findings, layout, against)

    return draw


def _draw(findings: Findings, layout: Layout, against: Against) -> Figure:
    curves = {}
    for best in shown_best(findings):
        table = findings.courses.get((best.scope, best.point))
        curve = None if table is None else curve_against(table, against.key)
        if curve is not None and len(curve):
            curves[best.scope] = curve
    if not curves:
        raise NothingToShow(f"The results hold no accuracies against {against.title.lower()}.")
    labels = [title_of(findings, scope) for scope in curves]
    height = (3.3 if layout.narrow else 4.2) + legend_height(labels, layout)
    figure = new_figure(layout, height)
    axes = figure.subplots()
    last = [float(curve["x"].iloc[-1]) for curve in curves.values()]
    scale = scale_for(against.kind, last)
    bottom, top = [], []
    for scope, curve in curves.items():
        look = look_of(findings, scope)
        x = curve["x"].to_numpy(float) / scale.divisor
        value, low, high = (100 * curve[name].to_numpy(float) for name in ("value", "low", "high"))
        axes.plot(
            x,
            value,
            color=look.colour,
            linewidth=1.9,
            marker=look.marker,
            markersize=look.size - 0.5,
            markeredgecolor="white",
            markeredgewidth=0.6,
            markevery=max(1, len(x) // 6),
            drawstyle="default" if against.key == "round" else "steps-post",
            label=title_of(findings, scope),
        )
        if np.isfinite(low).all():
            step = None if against.key == "round" else "post"
            axes.fill_between(x, low, high, color=look.colour, alpha=0.14, linewidth=0, step=step)
        later = value[len(value) // 4 :]
        bottom.append(float(later.min()))
        top += [float(value.max()), *high[np.isfinite(high)]]
    per_cent_axis(axes, min(bottom), max(top))
    axes.set_ylabel(f"{findings.counted.capitalize()} accuracy [%]")
    if against.key == "round":
        rounds_axis(axes, "Rounds")
    else:
        every = np.concatenate([curve["x"].to_numpy(float) for curve in curves.values()])
        log_axis(axes, every[every > 0] / scale.divisor)
        axes.set_xlabel(f"{against.title} so far [{scale.unit}], log scale")
    legend_below(figure, axes, layout)
    return figure
