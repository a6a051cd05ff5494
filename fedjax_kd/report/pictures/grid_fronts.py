"""Accuracy against delay, energy and bits: every setting, with what no other beats in front."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedjax_kd.report.drawing import Layout, new_figure
from fedjax_kd.report.grid_fronts import Front, fronts
from fedjax_kd.report.grid_values import Findings
from fedjax_kd.report.numbers import scale_for
from fedjax_kd.report.palette import MUTED
from fedjax_kd.report.pictures.grid_looks import (
    legend_below,
    legend_height,
    log_axis,
    look_of,
    per_cent_axis,
    shown_best,
    title_of,
)

MOST_POINTS = 400  # dominated settings of one panel; the most accurate are kept
_LOG_FROM = 6.0


def draw_fronts(findings: Findings, layout: Layout) -> Figure:
    """One panel per cost; a stepped line joins what is on the front."""
    found = fronts(findings)
    scopes = [best.scope for best in shown_best(findings)]
    labels = [title_of(findings, scope) for scope in scopes]
    down = len(found) if layout.narrow else 1
    height = (2.7 if layout.narrow else 3.7) * down + legend_height(labels, layout)
    figure = new_figure(layout, height)
    grid = figure.subplots(down, len(found) // down, squeeze=False, sharey=not layout.narrow)
    for index, (axes, front) in enumerate(zip(grid.flat, found, strict=True)):
        _draw_panel(axes, findings, front, scopes)
        if layout.narrow or index == 0:
            axes.set_ylabel(f"{findings.counted.capitalize()} accuracy, last [%]")
    legend_below(figure, grid.flat[0], layout)
    return figure


def _draw_panel(axes: Axes, findings: Findings, front: Front, scopes: list[str]) -> None:
    frame = front.frame[front.frame["scope"].isin(scopes)]
    beaten = frame[~frame["front"]].nlargest(MOST_POINTS, "accuracy")
    best = frame[frame["front"]].sort_values("cost")
    positive = frame.loc[frame["cost"] > 0, "cost"].to_numpy(float)
    scale = scale_for(front.cost.kind, positive)
    logarithmic = bool(positive.max() > _LOG_FROM * positive.min())
    least = positive.min() / scale.divisor
    # What costs nothing has no place on a logarithmic axis: it stands at its left edge.
    edge = least / 2.5 if logarithmic else 0.0
    for scope in scopes:
        look = look_of(findings, scope)
        for rows, faded in ((beaten, True), (best, False)):
            mine = rows[rows["scope"] == scope]
            axes.plot(
                np.maximum(mine["cost"].to_numpy(float) / scale.divisor, edge),
                100 * mine["accuracy"].to_numpy(float),
                look.marker,
                color=look.colour,
                markersize=look.size + (-1.0 if faded else 1.5),
                markeredgecolor="white",
                markeredgewidth=0.5,
                alpha=0.3 if faded else 1.0,
                linestyle="none",
                label=None if faded else title_of(findings, scope),
                zorder=3 if faded else 5,
            )
    axes.plot(
        np.maximum(best["cost"].to_numpy(float) / scale.divisor, edge),
        100 * best["accuracy"].to_numpy(float),
        color=MUTED,
        linewidth=1.2,
        drawstyle="steps-post",
        zorder=2,
    )
    per_cent_axis(axes, 100 * float(frame["accuracy"].min()), 100 * float(frame["accuracy"].max()))
    free = bool((frame["cost"] <= 0).any())
    if logarithmic:
        log_axis(axes, positive / scale.divisor)
        axes.set_xlim((edge if free else least) / 1.4, positive.max() / scale.divisor * 1.4)
        if free:
            axes.axvline(edge * 1.55, color=MUTED, linewidth=0.8, linestyle=(0, (2, 3)))
            axes.annotate(
                "none",
                (edge, 0.01),
                xycoords=("data", "axes fraction"),
                ha="center",
                fontsize=8,
                color=MUTED,
            )
    else:
        axes.set_xlim(0, positive.max() / scale.divisor * 1.08)
    axes.set_xlabel(f"{front.cost.title} [{scale.unit}]" + ", log scale" * logarithmic)
