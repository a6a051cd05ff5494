"""What each swept setting does: averaged over the others, and with the best of the others."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedjax_kd.report.drawing import Draw, Layout, new_figure, plain
from fedjax_kd.report.errors import NothingToShow
from fedjax_kd.report.grid_names import axis_names, axis_values, numeric, value_key, value_text
from fedjax_kd.report.grid_statistics import Estimate, stratified_interval
from fedjax_kd.report.grid_values import Findings
from fedjax_kd.report.pictures.grid_looks import (
    legend_below,
    legend_height,
    log_axis,
    look_of,
    per_cent_axis,
    shown_best,
    title_of,
)

_LOG_FROM = 20.0  # largest value over smallest, from which an axis is logarithmic
_MOST_VALUES = 24


class Effect(NamedTuple):
    """One scope at one value of a setting, as its place on the axis."""

    place: float
    pooled: Estimate  # over all points that have the value
    best: Estimate  # of the best of these points


def effects_of(findings: Findings, axis: str, scope: str, places: dict[str, float]) -> list[Effect]:
    """What one scope comes to at each value of one setting.

    Args:
        findings: of the comparison.
        axis: the setting's path.
        scope: whose accuracy.
        places: where a value stands, by `value_key`.

    Returns:
        In the order of the places; values at which the scope has no score are left out. Of the
        pooled estimates every point is a stratum.
    """
    found = []
    points = findings.points_of(scope)
    values = findings.comparison.points[axis]
    for key, place in sorted(places.items(), key=lambda each: each[1]):
        strata = [
            findings.seed_scores(scope, point, findings.ranked_by)
            for point in points
            if value_key(values[point]) == key
        ]
        strata = [stratum for stratum in strata if stratum.size]
        if strata:
            most = max(stratum.size for stratum in strata)
            whole = [stratified_interval([each]) for each in strata if each.size == most]
            top = max(whole, key=lambda estimate: estimate.value)
            pooled = stratified_interval(strata) if len(strata) > 1 else top
            found.append(Effect(place, pooled, top))
    return found


def effect_drawing(axis: str) -> Draw:
    """What draws the effect of one setting."""

    def draw(findings: Findings, layout: Layout) -> Figure:
        return _draw(findings, layout, axis)

    return draw


def _draw(findings: Findings, layout: Layout, axis: str) -> Figure:
    values = axis_values(findings.comparison, axis)[:_MOST_VALUES]
    numbers = numeric(values)
    places = {value_key(v): float(v) if numbers else float(i) for i, v in enumerate(values)}
    lines = {
        best.scope: effects
        for best in shown_best(findings)
        if axis in findings.axes_of(best.scope)
        and (effects := effects_of(findings, axis, best.scope, places))
    }
    if not lines:
        raise NothingToShow("No contestant has scores at more than one value of this setting.")
    several = any(len(findings.axes_of(scope)) > 1 for scope in lines)
    panels = ("pooled", "best") if several else ("best",)
    labels = [title_of(findings, scope) for scope in lines]
    down = len(panels) if layout.narrow else 1
    tall = 0.0 if numbers else 0.5
    height = (2.9 if layout.narrow else 3.7) * down + tall * down + legend_height(labels, layout)
    figure = new_figure(layout, height)
    grid = figure.subplots(down, len(panels) // down, squeeze=False, sharey=not layout.narrow)
    ends = [
        100 * end
        for effects in lines.values()
        for effect in effects
        for panel in panels
        for end in getattr(effect, panel)[:3]
        if np.isfinite(end)
    ]
    drawn = {effect.place for effects in lines.values() for effect in effects}
    for index, (axes, panel) in enumerate(zip(grid.flat, panels, strict=True)):
        _draw_panel(axes, findings, lines, panel, numbers)
        _label_values(axes, values, numbers, layout, drawn)
        per_cent_axis(axes, min(ends), max(ends))
        if several:
            axes.set_title(_TITLES[panel])
        if layout.narrow or index == 0:
            axes.set_ylabel(f"{findings.counted.capitalize()} accuracy [%]")
        axes.set_xlabel(plain(axis_names(findings.comparison.axes)[axis], 60))
    legend_below(figure, grid.flat[0], layout)
    return figure


_TITLES = {"pooled": "Over all other settings", "best": "With the best other settings"}


def _draw_panel(
    axes: Axes, findings: Findings, lines: dict[str, list[Effect]], panel: str, numbers: bool
) -> None:
    many = len(lines)
    for index, (scope, effects) in enumerate(lines.items()):
        look = look_of(findings, scope)
        estimates = [getattr(effect, panel) for effect in effects]
        # Side by side where the values are words, so that intervals do not hide each other.
        shift = 0.0 if numbers else 0.5 * ((index + 0.5) / many - 0.5)
        x = np.array([effect.place for effect in effects]) + shift
        value, low, high = 100 * np.array([estimate[:3] for estimate in estimates]).T
        axes.plot(
            x,
            value,
            color=look.colour,
            linewidth=1.7 if numbers else 0.0,
            marker=look.marker,
            markersize=look.size,
            markeredgecolor="white",
            markeredgewidth=0.6,
            label=title_of(findings, scope),
            zorder=4,
        )
        known = np.isfinite(low)
        axes.vlines(x[known], low[known], high[known], color=look.colour, linewidth=1.3, alpha=0.7)


def _label_values(
    axes: Axes,
    values: list[Any],
    numbers: bool,
    layout: Layout,
    drawn: set[float],
) -> None:
    if not numbers:
        most = 9 if layout.narrow else 18
        texts = [plain(value_text(value), most if len(values) > 2 else 22) for value in values]
        turned = sum(len(text) for text in texts) > (34 if layout.narrow else 52)
        axes.set_xticks(
            range(len(values)),
            texts,
            rotation=30 if turned else 0,
            ha="right" if turned else "center",
            rotation_mode="anchor",
        )
        axes.set_xlim(-0.6, len(values) - 0.4)
        return
    known = np.array(sorted(drawn))
    if known.min() > 0 and known.max() > _LOG_FROM * known.min():
        log_axis(axes, known)
        axes.set_xlim(known.min() / 1.4, known.max() * 1.4)
        if len(known) <= 6:
            axes.set_xticks(known, [f"{value:g}" for value in known])
            axes.set_xticks([], minor=True)
