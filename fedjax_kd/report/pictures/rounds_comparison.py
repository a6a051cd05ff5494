"""The contestants side by side: a dot and its 95 % interval for accuracies and costs."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator

from fedjax_kd.report.drawing import Layout, new_figure, value_grid
from fedjax_kd.report.errors import NothingToShow
from fedjax_kd.report.names import Metric
from fedjax_kd.report.numbers import Scale, scale_for
from fedjax_kd.report.palette import ACCENT_BAND, INK, MUTED, Look
from fedjax_kd.report.pictures.comparison import mark_beyond, panel_limits
from fedjax_kd.report.pictures.contestant_lines import look_of, name_lines
from fedjax_kd.report.rounds_names import COSTS, ROUNDS_METRICS, row_name, scopes_in_order
from fedjax_kd.report.rounds_results import Contestant, RoundsResults
from fedjax_kd.report.rounds_table import compared_rows, halves_of

_LOG_FROM = 6.0  # largest mean over smallest, from which an axis of costs is logarithmic
_ROW_IN = 0.31
_KNOWN = {metric.key: metric for metric in ROUNDS_METRICS}

Pairs = list[tuple[Contestant, str]]


def draw_contestants(results: RoundsResults, layout: Layout) -> Figure:
    """Accuracy panels with a row per contestant and view, cost panels with one per contestant."""
    pairs = compared_rows(results)
    if not pairs:
        raise NothingToShow("The summary has no contestant to compare.")
    firsts = [(each, view) for each, view in pairs if view == each.views[0]]
    accuracies = [panel for panel in _accuracy_panels(results) if _known(results, pairs, panel)]
    costs = [
        (metric.key,)
        for metric in (*COSTS, _KNOWN["flops"])
        if _known(results, firsts, (metric.key,))
    ]
    groups = [(pairs, accuracies), (firsts, costs)]
    groups = [(rows, panels) for rows, panels in groups if panels]
    if not groups:
        raise NothingToShow("The summary has no numbers of the contestants.")
    heights = [
        (_ROW_IN * len(rows) + 0.85) * (len(panels) if layout.narrow else 1)
        for rows, panels in groups
    ]
    figure = new_figure(layout, sum(heights) + 0.35)
    parts = figure.add_gridspec(len(groups), 1, height_ratios=heights)
    for part, (rows, panels) in zip(parts, groups, strict=True):  # pyright: ignore[reportArgumentType]
        shape = (len(panels), 1) if layout.narrow else (1, len(panels))
        grid = part.subgridspec(*shape).subplots(squeeze=False, sharey=not layout.narrow)
        for index, (axes, keys) in enumerate(zip(grid.flat, panels, strict=True)):
            _draw_panel(axes, results, rows, keys)
            names = [row_name(*pair) if panels is accuracies else pair[0].title for pair in rows]
            name_lines(axes, names, 22 if layout.narrow else 40, _bold(results, rows))
            if index and not layout.narrow:
                axes.tick_params(axis="y", labelleft=False)
    handles = [
        Line2D([], [], marker="o", color=INK, linestyle="none", label="best round"),
        Line2D(
            [],
            [],
            marker="o",
            color=INK,
            linestyle="none",
            markerfacecolor="white",
            label="last round",
        ),
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=2, handlelength=1.0)
    return figure


def _accuracy_panels(results: RoundsResults) -> list[tuple[str, ...]]:
    panels = []
    for scope in scopes_in_order(results):
        panels.append((f"accuracy_{scope}_best", f"accuracy_{scope}_last"))
        if scope == "personal":
            panels.append(("accuracy_personal_worst_decile_last",))
    return panels


def _known(results: RoundsResults, rows: Pairs, keys: tuple[str, ...]) -> bool:
    return any(np.isfinite(_column(results, rows, key)).any() for key in keys)


def _column(results: RoundsResults, rows: Pairs, key: str) -> np.ndarray:
    if key not in results.summary.columns:
        return np.full(len(rows), np.nan)
    names = [(each.name, view) for each, view in rows]
    return results.summary[key].loc[names].to_numpy(dtype=float)


def _bold(results: RoundsResults, rows: Pairs) -> list[int]:
    return [
        i
        for i, (each, view) in enumerate(rows)
        if each == results.proposed and view == each.views[0]
    ]


def _draw_panel(axes: Axes, results: RoundsResults, rows: Pairs, keys: tuple[str, ...]) -> None:
    metric = _KNOWN[keys[0]]
    means = np.stack([_column(results, rows, key) for key in keys])
    names = [(each.name, view) for each, view in rows]
    halves = np.stack([halves_of(results, names, key) for key in keys])
    scale = scale_for(metric.kind, means[np.isfinite(means) & (means != 0)])
    means, halves = means / scale.divisor, halves / scale.divisor
    is_cost = metric.kind != "fraction"
    placed = np.where(means > 0, means, np.nan) if is_cost else means
    positive = placed[np.isfinite(placed)]
    logarithmic = bool(is_cost and positive.size and positive.max() > _LOG_FROM * positive.min())
    if logarithmic:
        axes.set_xscale("log")
        decades = np.log10(positive.max() / positive.min())
        subs = (1.0, 2.0, 5.0) if decades < 1.1 else (1.0, 3.0) if decades < 2 else (1.0,)
        axes.xaxis.set_major_locator(LogLocator(subs=subs))
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_formatter(lambda value, _: "")
    if positive.size:
        flat = (placed.ravel(), (placed - halves).ravel(), (placed + halves).ravel())
        first = next((i for i, pair in enumerate(rows) if pair[0] == results.proposed), 0)
        left, right = panel_limits(*flat, logarithmic)
        if (is_cost and not logarithmic) or not left <= placed[0, first] <= right:
            pad = max(0.08 * (positive.max() - positive.min()), 0.02 * positive.max())
            left, right = positive.min() - pad, positive.max() + pad
            if logarithmic:
                left, right = positive.min() / 1.3, 1.3 * positive.max()
        axes.set_xlim(left, right)
        for which in range(len(keys)):
            last = keys[which].endswith("_last")
            for row, (contestant, view) in enumerate(rows):
                mean, half = placed[which, row], halves[which, row]
                look = look_of(results, contestant)
                main = contestant == results.proposed and view == contestant.views[0]
                # The last round's dot sits a little lower, so that neither hides the other.
                height = row + (0.17 if which else -0.17 if len(keys) > 1 else 0.0)
                _draw_dot(axes, (mean, half, height), look, (left, right), scale, last, main)
    if is_cost:
        for row in np.flatnonzero(means[0] == 0):
            axes.annotate(
                "none",
                (0.02, row),
                xycoords=("axes fraction", "data"),
                va="center",
                fontsize=8.5,
                color=MUTED,
            )
    for row in _bold(results, rows):
        axes.axhspan(row - 0.5, row + 0.5, color=ACCENT_BAND, zorder=0, linewidth=0)
    value_grid(axes)
    axes.set_title(_title(metric, keys) + f" [{scale.unit}]", fontsize=9.5)
    better = "more is better →" if metric.better == "high" else "← less is better"
    axes.set_xlabel(better + (", log scale" if logarithmic else ""), color=MUTED, fontsize=8.5)


def _draw_dot(
    axes: Axes,
    place: tuple[float, float, float],
    look: Look,
    limits: tuple[float, float],
    scale: Scale,
    hollow: bool,
    main: bool,
) -> None:
    mean, half, height = place
    if not np.isfinite(mean):
        return
    if mean < limits[0] or mean > limits[1]:
        mark_beyond(axes, height, mean, limits, look.colour, scale)
        return
    if np.isfinite(half):
        ends = np.clip([mean - half, mean + half], *limits)
        axes.plot(
            ends, [height, height], color=look.colour, linewidth=2.2 if main else 1.4, alpha=0.7
        )
    axes.plot(
        mean,
        height,
        look.marker,
        color=look.colour,
        markersize=look.size + (1 if main else -0.5),
        markerfacecolor="white" if hollow else look.colour,
        markeredgecolor=look.colour if hollow else "white",
        markeredgewidth=1.3 if hollow else 0.6,
        zorder=3,
    )


def _title(metric: Metric, keys: tuple[str, ...]) -> str:
    if len(keys) > 1:
        return f"{metric.title.split(',')[0]} accuracy"
    return metric.title.removesuffix(", last")
