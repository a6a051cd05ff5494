"""The picture: examples per second of every contestant, a panel for each model and method."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedjax_kd.report.drawing import picture_style
from fedjax_kd.report.palette import INK, MUTED

from .contestants import CANONICAL, GROUP_LABELS, METHODS, MODELS, OURS
from .summary import Line, headline

COLOURS = {OURS: "#d55e00", CANONICAL: "#eba26a"}
PEER = "#9fb3c8"
BAR_HEIGHT = 0.68


def draw(path: Path, lines: Sequence[Line]) -> None:
    """Draws and writes a PNG file.

    Args:
        path: of the file.
        lines: of the summary; variants that do not count are left out.
    """
    tables = {method: headline(lines, method) for method in METHODS}
    tables = {method: table for method, table in tables.items() if table}
    models = [
        model
        for model in MODELS
        if any(model in row for t in tables.values() for row in t.values())
    ]
    heights = [0.85 + 0.33 * len(table) for table in tables.values()]
    with picture_style():
        figure = Figure(figsize=(1.35 + 2.55 * len(models), 0.75 + sum(heights)))
        figure.set_layout_engine("constrained", w_pad=0.05, h_pad=0.06, wspace=0.02, hspace=0.05)
        grid = figure.subplots(
            len(tables), len(models), squeeze=False, gridspec_kw={"height_ratios": heights}
        )
        for row, (method, table) in zip(grid, tables.items(), strict=True):
            for column, model in enumerate(models):
                axes = row[column]
                _panel(axes, table, model)
                axes.set_title(f"{MODELS[model]}, {METHODS[method]}")
                axes.set_yticks(
                    range(len(table)),
                    [GROUP_LABELS[group] for group in table] if column == 0 else [],
                )
        for axes in grid[-1]:
            axes.set_xlabel("thousand examples per second", color=MUTED)
        figure.suptitle(
            "Training speed of whole rounds on Fashion-MNIST\n"
            "lines: slowest to fastest repeat; numbers: how many times as fast ours is",
            x=0.01,
            ha="left",
            fontsize=10.5,
            color=INK,
        )
        figure.savefig(path, dpi=170, metadata={"Software": None})


def _panel(axes: Axes, table: dict[str, dict[str, Line]], model: str) -> None:
    reach = max(row[model].examples_per_s.highest for row in table.values() if model in row)
    for place, (group, row) in enumerate(table.items()):
        if model not in row:
            axes.text(0.01 * reach / 1e3, place, "not run", va="center", color=MUTED, fontsize=8.5)
            continue
        line = row[model]
        median, lowest, highest = (value / 1e3 for value in line.examples_per_s)
        colour = COLOURS.get(group, PEER)
        axes.barh(place, median, BAR_HEIGHT, color=colour)
        axes.plot([lowest, highest], [place, place], color=INK, linewidth=1.1, alpha=0.75)
        note = "" if line.ours_ratio is None else f"{line.ours_ratio.median:.1f}×"
        axes.annotate(
            note,
            (max(highest, median), place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color=INK,
        )
    axes.set_ylim(len(table) - 0.45, -0.55)
    axes.set_xlim(0, 1.18 * reach / 1e3)
    axes.locator_params(axis="x", nbins=4)
    axes.grid(True, axis="x")
    axes.tick_params(axis="both", length=0)
    axes.spines["left"].set_visible(False)
