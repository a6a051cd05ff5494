"""The picture: what a round costs every contestant, a panel for each method."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from peers.picture import BAR_HEIGHT, COLOURS, PEER

from fedjax_kd.report.drawing import picture_style
from fedjax_kd.report.palette import INK, MUTED

from .contestants import GROUP_LABELS, METHODS
from .summary import Line, headline


def draw(path: Path, lines: Sequence[Line]) -> None:
    """Draws and writes a PNG file; variants that do not count are left out."""
    table = headline(lines)
    methods = [method for method in METHODS if any(method in row for row in table.values())]
    with picture_style():
        figure = Figure(figsize=(1.6 + 2.75 * len(methods), 1.45 + 0.36 * len(table)))
        figure.set_layout_engine("constrained", w_pad=0.05, h_pad=0.06, wspace=0.02)
        grid = figure.subplots(1, len(methods), squeeze=False)[0]
        for column, (axes, method) in enumerate(zip(grid, methods, strict=True)):
            _panel(axes, table, method)
            axes.set_title(METHODS[method])
            labels = [GROUP_LABELS[group] for group in table] if column == 0 else []
            axes.set_yticks(range(len(table)), labels)
            axes.set_xlabel("seconds a round", color=MUTED)
        figure.suptitle(
            "Cost of one whole round on Fashion-MNIST\n"
            "lines: fastest to slowest repeat; numbers: how many times as fast ours is",
            x=0.01,
            ha="left",
            fontsize=10.5,
            color=INK,
        )
        figure.savefig(path, dpi=170, metadata={"Software": None})


def _panel(axes: Axes, table: dict[str, dict[str, Line]], method: str) -> None:
    reach = max(row[method].round_s.highest for row in table.values() if method in row)
    for place, (group, row) in enumerate(table.items()):
        if method not in row:
            axes.text(0.01 * reach, place, "not run", va="center", color=MUTED, fontsize=8.5)
            continue
        line = row[method]
        median, lowest, highest = line.round_s
        axes.barh(place, median, BAR_HEIGHT, color=COLOURS.get(group, PEER))
        axes.plot([lowest, highest], [place, place], color=INK, linewidth=1.1, alpha=0.75)
        axes.annotate(
            "" if line.ours_ratio is None else f"{line.ours_ratio.median:.1f}×",
            (max(highest, median), place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color=INK,
        )
    axes.set_ylim(len(table) - 0.45, -0.55)
    axes.set_xlim(0, 1.2 * reach)
    axes.locator_params(axis="x", nbins=4)
    axes.grid(True, axis="x")
    axes.tick_params(axis="both", length=0)
    axes.spines["left"].set_visible(False)
