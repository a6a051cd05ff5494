"""How scopes are drawn in the pictures of a comparison, and which of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from fedjax_kd.report.drawing import Layout, plain
from fedjax_kd.report.errors import NothingToShow
from fedjax_kd.report.grid_names import POLICY, scope_title
from fedjax_kd.report.grid_values import Best, Findings
from fedjax_kd.report.palette import Look, contestant_look, policy_look
from fedjax_kd.report.pictures.contestant_lines import legend_columns

MOST_SCOPES = 12  # that one picture shows


def shown_best(findings: Findings) -> list[Best]:
    """The best settings of the scopes that pictures show: the twelve best scopes, best first.

    Raises:
        NothingToShow: no scope has a score.
    """
    ranked = sorted(findings.best, key=lambda best: -best.estimate.value)
    if not ranked:
        raise NothingToShow("No row is done yet, so there is nothing to draw.")
    return ranked[:MOST_SCOPES]


def look_of(findings: Findings, scope: str) -> Look:
    """Colour and marker, the same in every picture of a comparison."""
    if scope.startswith(POLICY):
        return policy_look(scope.removeprefix(POLICY))
    contestants = [each for each in findings.main_scopes if not each.startswith(POLICY)]
    return contestant_look(contestants.index(scope))


def title_of(findings: Findings, scope: str, most: int = 40) -> str:
    """A scope's name as the font can draw it."""
    return plain(scope_title(findings.comparison, scope), most)


def legend_below(figure: Figure, axes: Axes, layout: Layout) -> None:
    """One legend for all panels, below them."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower left",
        ncols=legend_columns(labels, 44 if layout.narrow else 150),
        handlelength=2.0,
        columnspacing=1.4,
    )


def legend_height(labels: Sequence[str], layout: Layout) -> float:
    """Inches that `legend_below` takes."""
    columns = legend_columns(list(labels), 44 if layout.narrow else 150)
    return 0.2 * -(-len(labels) // columns) + 0.1


def log_axis(axes: Axes, values: np.ndarray, which: str = "x") -> None:
    """A logarithmic axis with ticks at 1, 2 and 5, or fewer over many decades.

    Args:
        axes: whose.
        values: what is drawn along it, above zero.
        which: `x` or `y`.
    """
    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    decades = float(np.log10(values.max() / values.min()))
    subs = (1.0, 2.0, 5.0) if decades < 1.3 else (1.0, 3.0) if decades < 2.5 else (1.0,)
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_minor_formatter(lambda value, _: "")


def per_cent_axis(axes: Axes, low: float, high: float) -> None:
    """A vertical axis of per cent around the given ends."""
    margin = max(0.08 * (high - low), 0.5)
    axes.set_ylim(low - margin, high + margin)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6))
    axes.grid(True)
    axes.tick_params(which="both", length=0)
