"""How the users' accuracies are spread at the best setting of every scope."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from fedjax_kd.report.drawing import Layout, new_figure, value_grid
from fedjax_kd.report.errors import NothingToShow
from fedjax_kd.report.grid_clients import client_scores, spread_of
from fedjax_kd.report.grid_values import Findings
from fedjax_kd.report.palette import INK
from fedjax_kd.report.pictures.contestant_lines import name_lines
from fedjax_kd.report.pictures.grid_looks import look_of, shown_best, title_of

_MOST_DOTS = 400


def draw_clients(findings: Findings, layout: Layout) -> Figure:
    """One row per scope: a dot per user and seed, a box over the middle half, three marks."""
    people = client_scores(findings)
    scopes = [best.scope for best in shown_best(findings) if best.scope in people]
    if not scopes:
        raise NothingToShow("The results hold no accuracies of the single users.")
    figure = new_figure(layout, 0.5 * len(scopes) + 0.9)
    axes = figure.subplots()
    rng = np.random.Generator(np.random.Philox(0))  # where dots lie within their row
    for row, scope in enumerate(scopes):
        look = look_of(findings, scope)
        values = 100 * people[scope]["accuracy"].to_numpy(float)
        dots = values
        if len(values) > _MOST_DOTS:
            dots = np.sort(values)[np.linspace(0, len(values) - 1, _MOST_DOTS).astype(int)]
        axes.plot(
            dots,
            row + rng.uniform(-0.3, 0.3, len(dots)),
            "o",
            color=look.colour,
            markersize=3.2,
            alpha=0.35,
            markeredgewidth=0,
        )
        low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
        axes.barh(
            row,
            high - low,
            left=low,
            height=0.5,
            color="none",
            edgecolor=look.colour,
            linewidth=1.6,
        )
        axes.plot([middle, middle], [row - 0.25, row + 0.25], color=look.colour, linewidth=2.6)
        seeds = [group["accuracy"].to_numpy(float) for _, group in people[scope].groupby("seed")]
        worst = 100 * float(np.mean([spread_of(each)["worst_decile"] for each in seeds]))
        axes.plot(worst, row, "|", color=INK, markersize=15, markeredgewidth=2.2, zorder=5)
    name_lines(axes, [title_of(findings, scope) for scope in scopes], 18 if layout.narrow else 32)
    value_grid(axes)
    axes.set_xlabel(f"{findings.counted.capitalize()} accuracy of a user [%]")
    return figure
