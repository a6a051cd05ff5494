"""The accuracy table: what each user reaches with each student, with and without distillation."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedjax_kd.report.drawing import Layout, new_figure, plain
from fedjax_kd.report.errors import NothingToShow
from fedjax_kd.report.names import SOFT_LABELS, student_order
from fedjax_kd.report.palette import INK
from fedjax_kd.report.results import Frame, Results

_MOST_NUMBERS = 45  # rows, above which cells carry no numbers


def accuracy_by_labels(results: Results, column: str = "accuracy_personal") -> dict:
    """Accuracy of the profiling stage, mean over seeds, for each kind of soft labels.

    Returns:
        From `soft_labels` to a frame of users by students, in the catalog's order.

    Raises:
        NothingToShow: there is no accuracy table of the profiling stage.
    """
    table = results.accuracy_table
    table = table[table["stage"] == "profile"]
    if table.empty or column not in table.columns:
        raise NothingToShow("The results hold no accuracy table.")
    students = [s for s in student_order(results) if s in set(table["student"].astype(str))]
    found = {}
    for labels in (*SOFT_LABELS, *sorted(set(table["soft_labels"]) - set(SOFT_LABELS))):
        mine = table[table["soft_labels"] == labels]
        if mine[column].notna().any():
            means = mine.groupby(["user", "student"])[column].mean().unstack("student")
            found[labels] = means.reindex(columns=students)
    if not found:
        raise NothingToShow("The accuracy table holds no numbers.")
    return found


def distilled_kind(found: dict) -> str | None:
    """The kind of soft labels that stands for distillation: all samples if there, else part."""
    return next((labels for labels in ("all", "synchronised") if labels in found), None)


def draw_accuracy_table(results: Results, layout: Layout) -> Figure:
    """One heat map per kind of soft labels, and the gain of distillation."""
    found = accuracy_by_labels(results)
    panels = [
        (SOFT_LABELS.get(labels) or str(labels), frame, False) for labels, frame in found.items()
    ]
    kind = distilled_kind(found)
    if kind and "none" in found:
        gain = found[kind] - found["none"]
        panels.append(("gain by distillation", gain, True))
    n_users = max(len(frame) for _, frame, _ in panels)
    numbers = n_users <= _MOST_NUMBERS
    rows_in = (n_users + 1.5) * (0.2 if numbers else max(0.04, 6.0 / n_users))
    if layout.narrow:
        figure = new_figure(layout, (rows_in + 1.15) * len(panels))
        grid = figure.subplots(len(panels), 1, squeeze=False)[:, 0]
    else:
        figure = new_figure(layout, rows_in + 1.2)
        grid = figure.subplots(1, len(panels), squeeze=False)[0]
    plain_values = np.concatenate([f.to_numpy().ravel() for _, f, is_gain in panels if not is_gain])
    gains = np.concatenate([f.to_numpy().ravel() for _, f, g in panels if g] or [np.zeros(1)])
    low, high = np.nanpercentile(100 * plain_values, [2, 98])
    reach = max(float(np.nanmax(np.abs(100 * gains), initial=0.0)), 0.5)
    for index, (axes, (title, frame, is_gain)) in enumerate(zip(grid, panels, strict=True)):
        limits = (-reach, reach) if is_gain else (low, max(high, low + 1))
        _draw_heat(axes, 100 * frame, title, is_gain, limits, numbers)
        if index and not layout.narrow:
            axes.set_yticks([])
        else:
            axes.set_ylabel("User")
    return figure


def _draw_heat(
    axes: Axes,
    frame: Frame,
    title: str,
    is_gain: bool,
    limits: tuple[float, float],
    numbers: bool,
) -> None:
    """Users as rows, students as columns, the mean over users set off below."""
    values = frame.to_numpy(dtype=float)
    mean = frame.mean().to_numpy(dtype=float)[None]
    colours = "PuOr_r" if is_gain else "Blues"
    edges = np.arange(values.shape[1] + 1.0)
    gap, tall = (0.4, 1.0) if numbers else (0.01 * len(values), 0.035 * len(values))
    below = len(values) + gap
    for block, bottoms in (
        (values, np.arange(len(values) + 1.0)),
        (mean, np.array([below, below + tall])),
    ):
        mesh = axes.pcolormesh(
            edges,
            bottoms,
            np.ma.masked_invalid(block),
            cmap=colours,
            vmin=limits[0],
            vmax=limits[1],
            edgecolors="white",
            linewidth=0.6 if numbers else 0,
            rasterized=block.size > 1500,
        )
        if not numbers and block is values:
            continue
        for row, column in np.ndindex(block.shape):
            if not np.isfinite(block[row, column]):
                continue
            shade = mesh.cmap(mesh.norm(block[row, column]))
            dark = 0.299 * shade[0] + 0.587 * shade[1] + 0.114 * shade[2] < 0.55
            text = f"{block[row, column]:+.1f}" if is_gain else f"{block[row, column]:.1f}"
            axes.text(
                column + 0.5,
                float(bottoms[row] + bottoms[row + 1]) / 2,
                text.replace("-", "−"),
                ha="center",
                va="center",
                fontsize=7.5,
                fontweight="bold" if block is mean else "normal",
                color="white" if dark else INK,
            )
    step = 1 if len(values) <= 30 else 5 if len(values) <= 60 else 10
    rows = [*range(0, len(values), step)]
    axes.set_yticks(
        [*(row + 0.5 for row in rows), below + tall / 2],
        [*(str(frame.index[row]) for row in rows), "mean"],
        fontsize=8,
    )
    names = [plain(name, most=14) for name in frame.columns]
    turn = 90 if sum(map(len, names)) > 30 else 0
    axes.set_xticks(np.arange(len(names)) + 0.5, names, rotation=turn, fontsize=8)
    axes.set_ylim(below + tall, 0)
    axes.set_title(f"{title} [{'points' if is_gain else '%'}]", fontsize=9.5)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
