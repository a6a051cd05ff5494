"""The picture of a comparison: accuracy of every contestant in every condition."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill

import numpy as np
from conditions.figures import Condition, interval

from fedjax_kd.report.drawing import WIDE, new_figure, svg_document
from fedjax_kd.report.palette import CONTESTANT_LOOKS, GRID

_MOST_BESIDE = 4


def draw_comparison(conditions: Sequence[Condition], scope: str) -> str:
    """An SVG: one panel per condition, contestants below each other, best (full) and last (open).

    At most four panels stand beside each other.

    Args:
        conditions: the runs.
        scope: `personal` or `common`.
    """
    names: dict[str, tuple[str, int]] = {}
    for condition in conditions:
        for row in condition.rows:
            names.setdefault(f"{row.contestant}/{row.view}", (_label(row, condition), len(names)))
    contestants = list(dict.fromkeys(key.split("/")[0] for key in names))
    across = min(len(conditions), _MOST_BESIDE)
    down = -(-len(conditions) // across)
    figure = new_figure(WIDE, 0.4 + down * (0.85 + 0.34 * len(names)))
    grid = figure.subplots(down, across, sharey=True, squeeze=False)
    for unused in grid.flat[len(conditions) :]:
        unused.set_visible(False)
    for axes, condition in zip(grid.flat, conditions, strict=False):
        for row in condition.rows:
            _, place = names[f"{row.contestant}/{row.view}"]
            look = CONTESTANT_LOOKS[contestants.index(row.contestant) % len(CONTESTANT_LOOKS)]
            for moment, shift in (("best", -0.14), ("last", 0.14)):
                mean, half = interval(row.accuracy[scope, moment])
                axes.errorbar(
                    100 * mean,
                    place + shift,
                    xerr=100 * half if np.isfinite(half) else None,
                    fmt=look.marker,
                    markersize=look.size,
                    color=look.colour,
                    markerfacecolor=look.colour if moment == "best" else "white",
                    elinewidth=1.2,
                )
        axes.set_title(fill(condition.title, max(90 // across, 24)), fontsize=9.5)
        axes.grid(True, axis="x", color=GRID)
        axes.tick_params(length=0)
    for axes in grid[:, 0]:
        axes.set_yticks([place for _, place in names.values()], [n for n, _ in names.values()])
        axes.set_ylim(len(names) - 0.5, -0.5)
    whose = "own" if scope == "personal" else "common"
    figure.supxlabel(
        f"Accuracy on {whose} test data [%]; full: best round, open: last", fontsize=9.5
    )
    return svg_document(figure)


def _label(row, condition: Condition) -> str:
    several = sum(each.contestant == row.contestant for each in condition.rows) > 1
    return f"{row.title}: {row.view}" if several else row.title
