"""Accuracy of every user by architecture: strips of dots, one strip per contestant."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from fedjax_kd.report.drawing import Layout, new_figure, plain, value_grid
from fedjax_kd.report.errors import NothingToShow
from fedjax_kd.report.palette import GRID, MUTED
from fedjax_kd.report.pictures.contestant_lines import legend_columns, look_of
from fedjax_kd.report.rounds_names import scopes_in_order
from fedjax_kd.report.rounds_people import group_order, grouped_clients
from fedjax_kd.report.rounds_results import Contestant, RoundsResults
from fedjax_kd.report.tables import Frame

_MOST_DOTS = 2500  # in one panel; with more, only the first seed's users are drawn
_STRIP_IN = 0.15


def draw_people(results: RoundsResults, layout: Layout) -> Figure:
    """One row per architecture and in it one strip per contestant; the tick is the mean."""
    table = grouped_clients(results)
    main = [(each.name, each.views[0]) for each in results.contestants if each.views]
    keys = list(zip(table["contestant"], table["view"], strict=True))
    table = table[[key in main for key in keys]]
    scopes = [
        scope
        for scope in scopes_in_order(results)
        if (column := f"accuracy_{scope}_at_best") in table.columns and table[column].notna().any()
    ]
    if table.empty or not scopes:
        raise NothingToShow("The results hold no accuracies of the single users.")
    shown = [each for each in results.contestants if each.name in set(table["contestant"])]
    groups = [group for group in group_order(results) if group in set(table["group"])]
    rows_in = max(_STRIP_IN * len(shown) + 0.12, 0.3) * len(groups)
    legend_rows = len(shown) if layout.narrow else -(-len(shown) // 4)
    down = len(scopes) if layout.narrow else 1
    figure = new_figure(layout, down * (rows_in + 0.75) + 0.2 * legend_rows + 0.3)
    grid = figure.subplots(down, len(scopes) // down, squeeze=False, sharey=not layout.narrow)
    for index, (axes, scope) in enumerate(zip(grid.flat, scopes, strict=True)):
        _draw_strips(axes, results, table, f"accuracy_{scope}_at_best", shown, groups)
        axes.set_title(f"{scope.capitalize()} accuracy [%]")
        if index and not layout.narrow:
            axes.tick_params(axis="y", labelleft=False)
    handles = [
        Line2D(
            [],
            [],
            color=look_of(results, each).colour,
            marker=look_of(results, each).marker,
            markersize=6,
            linestyle="none",
            label=plain(each.title, 40),
        )
        for each in shown
    ]
    columns = 1 if layout.narrow else legend_columns([each.title for each in shown])
    figure.legend(handles=handles, loc="outside lower left", ncols=columns, handlelength=1.0)
    return figure


def _draw_strips(
    axes: Axes,
    results: RoundsResults,
    table: Frame,
    column: str,
    shown: list[Contestant],
    groups: list[str],
) -> None:
    seeds = sorted(table["seed"].unique())
    if len(table) > _MOST_DOTS:
        seeds = seeds[:1]
    step = 0.86 / len(shown)
    for row, group in enumerate(groups):
        if row % 2:
            axes.axhspan(row - 0.5, row + 0.5, color=GRID, alpha=0.35, zorder=0, linewidth=0)
        for place, each in enumerate(shown):
            mine = table[(table["contestant"] == each.name) & (table["group"] == group)]
            values = 100 * mine[mine["seed"].isin(seeds)][column].to_numpy(dtype=float)
            values = values[np.isfinite(values)]
            if not values.size:
                continue
            look = look_of(results, each)
            middle = row - 0.43 + step * (place + 0.5)
            # Dots are spread by the golden ratio, which is even for any number of them.
            spread = (np.arange(values.size) * 0.618034 % 1 - 0.5) * 0.6 * step
            axes.plot(
                values,
                middle + spread,
                "o",
                color=look.colour,
                markersize=2.6,
                markeredgewidth=0,
                alpha=0.4,
            )
            mean = 100 * float(np.nanmean(mine[column].to_numpy(dtype=float)))
            axes.plot(
                mean,
                middle,
                look.marker,
                color=look.colour,
                markersize=0.8 * look.size,
                markeredgecolor="white",
                markeredgewidth=0.5,
                zorder=4,
            )
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.set_yticks(range(len(groups)), [plain(group, 22) for group in groups])
    axes.spines["left"].set_visible(False)
    value_grid(axes)
    axes.set_xlabel("users of all seeds, at the best round", color=MUTED, fontsize=8.5)
    if len(seeds) == 1:
        axes.set_xlabel(
            f"users of seed {int(seeds[0])}, at the best round", color=MUTED, fontsize=8.5
        )
