"""The picture of a comparison: accuracy round by round on both sides, one panel for each method."""

from __future__ import annotations

from collections.abc import Sequence

from fedjax_kd.report.drawing import WIDE, new_figure, svg_document
from fedjax_kd.report.palette import CONTESTANT_LOOKS, GRID

from .differences import Line, curves
from .job import METHODS

OURS, THEIRS = CONTESTANT_LOOKS[0], CONTESTANT_LOOKS[1]
MARKED = 12  # rounds of a curve that get a marker, about


def draw(lines: Sequence[Line], other: str) -> str:
    """An SVG; `other` names the loop that ours is held against."""
    methods = list(dict.fromkeys(line.method for line in lines))
    figure = new_figure(WIDE, 3.6)
    panels = figure.subplots(1, len(methods), sharey=True, squeeze=False)[0]
    for axes, method in zip(panels, methods, strict=True):
        rounds, ours, theirs = curves(lines, method)
        every = max(1, len(rounds) // MARKED)
        axes.plot(rounds, 100 * ours, color=OURS.colour, linewidth=1.6, label="fedjax_kd")
        axes.plot(
            rounds,
            100 * theirs,
            linestyle="none",
            marker=THEIRS.marker,
            markersize=THEIRS.size + 1,
            markevery=every,
            color=THEIRS.colour,
            markerfacecolor="none",
            label=other,
        )
        axes.set_title(METHODS[method])
        axes.set_xlabel("Finished rounds")
        axes.grid(True, color=GRID)
        axes.tick_params(length=0)
    panels[0].set_ylabel("Accuracy on the clients' test data [%]")
    panels[0].legend(loc="lower right", frameon=False)
    return svg_document(figure)
