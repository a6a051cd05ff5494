"""How a contestant is drawn: its look, its row's name, and its curve over the rounds."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from fedjax_kd.report.drawing import plain
from fedjax_kd.report.palette import VIEW_LINES, Look, contestant_look
from fedjax_kd.report.rounds_results import Contestant, RoundsResults
from fedjax_kd.report.tables import Frame

_MOST_POINTS = 200  # of one line; more would only make the file larger


def look_of(results: RoundsResults, contestant: Contestant) -> Look:
    """Colour and marker, the same in every picture of a study."""
    names = [each.name for each in results.contestants]
    return contestant_look(names.index(contestant.name))


def name_lines(axes: Axes, names: Sequence[str], most: int, bold: Sequence[int] = ()) -> None:
    """Names rows 0, 1, … from the top; `bold` says which names stand out."""
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_yticks(range(len(names)), [_folded(name, most) for name in names], linespacing=1.0)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    for row, label in enumerate(axes.get_yticklabels()):
        if row in bold:
            label.set_fontweight("bold")


def _folded(name: str, most: int) -> str:
    """A name in one line, or in two where it is longer than `most` characters."""
    lines = textwrap.wrap(plain(name, 2 * most), most)
    return (
        "\n".join([*lines[:1], plain(" ".join(lines[1:]), most)]) if lines[1:] else "".join(lines)
    )


def legend_columns(labels: Sequence[str], characters: int = 150) -> int:
    """How many entries of a legend stand side by side, so that its rows are about equally full.

    Args:
        labels: the entries.
        characters: how many fit beside each other, the lines before the entries included.
    """
    room = [len(label) + 7 for label in labels]
    if not room or sum(room) <= characters:
        return max(len(room), 1)
    most = max(1, characters // max(room))
    return -(-len(room) // -(-len(room) // most))


def focused(axes: Axes, means: Sequence[Frame], factor: float = 100.0) -> None:
    """Starts the vertical axis where the curves are in their later three quarters.

    Their first steep rise may begin below the axis.
    """
    curves = [factor * each.to_numpy(dtype=float) for each in means]
    if not curves or max(len(each) for each in curves) < 8:
        return
    bottom = min(float(np.nanmin(each[len(each) // 4 :])) for each in curves)
    top = max(float(np.nanmax(each)) for each in curves)
    span = max(top - bottom, 0.5)
    axes.set_ylim(bottom - 0.06 * span, top + 0.1 * span)


def draw_rounds(
    axes: Axes,
    values: Frame,
    results: RoundsResults,
    contestant: Contestant,
    view: str,
    label: str,
    factor: float = 100.0,
) -> None:
    """One curve over the rounds with its range over the seeds.

    Args:
        axes: where to draw.
        values: `mean`, `low` and `high` by round.
        results: the study, which says which colour the contestant has.
        contestant: whose curve it is; the proposed method's is the thickest.
        view: which of its views; the first is drawn solid, the others broken.
        label: the curve's name in the legend.
        factor: what the values are multiplied with, 100 for per cent.
    """
    values = thinned(values)
    proposed, place = contestant == results.proposed, contestant.views.index(view)
    look = look_of(results, contestant)
    width = (2.4 if proposed else 1.6) * (1.0 if place == 0 else 0.75)
    axes.plot(
        values.index,
        factor * values["mean"],
        color=look.colour,
        linestyle=VIEW_LINES[place % len(VIEW_LINES)],
        linewidth=width,
        marker=look.marker if len(values) == 1 else None,
        label=plain(label, 40),
        zorder=4 if proposed else 3,
    )
    if (values["high"] > values["low"]).any():
        axes.fill_between(
            values.index,
            factor * values["low"],
            factor * values["high"],
            color=look.colour,
            alpha=0.16 if proposed else 0.08,
            linewidth=0,
        )


def thinned(values: Frame) -> Frame:
    """At most 200 of the rows, evenly spaced, with the first and the last."""
    if len(values) <= _MOST_POINTS:
        return values
    return values.iloc[np.unique(np.linspace(0, len(values) - 1, _MOST_POINTS).round().astype(int))]


def rounds_axis(axes: Axes, label: str = "Round") -> None:
    """Whole rounds along the horizontal axis, light lines behind."""
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6, min_n_ticks=1))
    axes.grid(True)
    axes.tick_params(which="both", length=0)
    if label:
        axes.set_xlabel(label)
