"""Accuracy against rounds, simulated time, energy and traffic, for all contestants."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedjax_kd.report.drawing import Layout, new_figure, plain
from fedjax_kd.report.errors import NothingToShow
from fedjax_kd.report.names import Metric
from fedjax_kd.report.numbers import scale_for
from fedjax_kd.report.palette import INK, MUTED
from fedjax_kd.report.pictures.contestant_lines import (
    draw_rounds,
    focused,
    legend_columns,
    look_of,
    rounds_axis,
    thinned,
)
from fedjax_kd.report.rounds_names import COSTS, counted_scope, row_name, scopes_in_order
from fedjax_kd.report.rounds_results import RoundsResults
from fedjax_kd.report.rounds_values import (
    cost_and_accuracy,
    cost_to_target,
    curve,
    seed_values,
    shown_contestants,
    target_accuracy,
    target_shares,
)


def draw_accuracy_curves(results: RoundsResults, layout: Layout) -> Figure:
    """Both accuracies after each evaluated round: one line per contestant and view."""
    lines = [
        (scope, each, view, values)
        for scope in scopes_in_order(results)
        for each in shown_contestants(results)
        for view in each.views
        if len(values := curve(results, each.name, view, f"accuracy_{scope}"))
    ]
    if not lines:
        raise NothingToShow("The results hold no curve of accuracy over the rounds.")
    scopes = list(dict.fromkeys(scope for scope, *_ in lines))
    labels = {(each.name, view): row_name(each, view) for _, each, view, _ in lines}
    down = len(scopes) if layout.narrow else 1
    height = 3.0 * down + 0.2 * len(labels) if layout.narrow else 3.6 + 0.2 * _legend_rows(labels)
    figure = new_figure(layout, height)
    grid = figure.subplots(down, len(scopes) // down, squeeze=False)
    for axes, scope in zip(grid.flat, scopes, strict=True):
        mine = [line for line in lines if line[0] == scope]
        for _, each, view, values in mine:
            draw_rounds(axes, values, results, each, view, labels[each.name, view])
        focused(axes, [values["mean"] for *_, values in mine])
        axes.set_title(f"{scope.capitalize()} accuracy [%]")
        rounds_axis(axes)
    _legend(figure, grid.flat[0], layout, labels)
    return figure


def draw_cost_curves(results: RoundsResults, layout: Layout) -> Figure:
    """The counted accuracy against each cost so far; diamonds where the marks are reached."""
    shown = shown_contestants(results)
    panels = [
        (metric, lines)
        for metric in COSTS
        if (
            lines := [
                (each, values)
                for each in shown
                if len(values := cost_and_accuracy(results, each, metric.key))
            ]
        )
        and any((values["cost"] > 0).any() for _, values in lines)
    ]
    if not panels:
        raise NothingToShow("The results hold no costs over the rounds.")
    names = {(each.name, ""): each.title for _, lines in panels for each, _ in lines}
    down = len(panels) if layout.narrow else 1
    height = 2.7 * down + 0.2 * len(names) if layout.narrow else 3.4 + 0.2 * _legend_rows(names)
    figure = new_figure(layout, height)
    grid = figure.subplots(down, len(panels) // down, squeeze=False, sharey=not layout.narrow)
    for index, (axes, (metric, lines)) in enumerate(zip(grid.flat, panels, strict=True)):
        _draw_cost_panel(axes, results, metric, lines)
        if layout.narrow or index == 0:
            axes.set_ylabel(f"{counted_scope(results).capitalize()} accuracy [%]")
    _legend(figure, grid.flat[0], layout, names)
    return figure


def _draw_cost_panel(axes: Axes, results: RoundsResults, metric: Metric, lines: list) -> None:
    scale = scale_for(metric.kind, [float(values["cost"].iloc[-1]) for _, values in lines])
    axes.set_xscale("log")
    levels = {share: target_accuracy(results, share) for share in target_shares(results)}
    levels = {share: level for share, level in levels.items() if np.isfinite(level)}
    for share, level in levels.items():
        axes.axhline(100 * level, color=MUTED, linewidth=1.0, linestyle=(0, (1, 2)), zorder=1)
        axes.annotate(
            f"{100 * share:.0f} %",
            (0.01, 100 * level),
            xycoords=("axes fraction", "data"),
            xytext=(0, 2),
            textcoords="offset points",
            fontsize=8,
            color=MUTED,
        )
    for each, values in lines:
        look, proposed = look_of(results, each), each == results.proposed
        paid = thinned(values[values["cost"] > 0])
        if paid.empty:
            view = each.views[0]
            metric_name = f"accuracy_{counted_scope(results)}"
            best = seed_values(results, each.name, view, metric_name, "best").mean()
            axes.axhline(
                100 * best,
                color=look.colour,
                linewidth=1.4,
                linestyle=(0, (5, 2)),
                label=plain(each.title, 40),
            )
            continue
        axes.step(
            paid["cost"] / scale.divisor,
            100 * paid["accuracy"],
            where="post",
            color=look.colour,
            linewidth=2.4 if proposed else 1.6,
            label=plain(each.title, 40),
            zorder=4 if proposed else 3,
        )
        for share, level in levels.items():
            spent = cost_to_target(results, each, metric.key, share)
            if np.isfinite(spent) and spent > 0:
                axes.plot(
                    spent / scale.divisor,
                    100 * level,
                    "D",
                    color=look.colour,
                    markeredgecolor=INK,
                    markeredgewidth=0.7,
                    markersize=7 if proposed else 6,
                    zorder=6,
                )
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_minor_formatter(lambda value, _: "")
    axes.grid(True)
    axes.tick_params(which="both", length=0)
    axes.set_xlabel(f"{metric.title} so far [{scale.unit}], log scale")


def _legend_rows(labels: dict) -> int:
    return -(-len(labels) // legend_columns(list(labels.values())))


def _legend(figure: Figure, axes: Axes, layout: Layout, labels: dict) -> None:
    figure.legend(
        *axes.get_legend_handles_labels(),
        loc="outside lower left",
        ncols=1 if layout.narrow else legend_columns(list(labels.values())),
        handlelength=2.4,
        columnspacing=1.4,
    )
