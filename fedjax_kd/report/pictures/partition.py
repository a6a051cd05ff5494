"""Who holds what: examples of each class by user, and the sizes of the splits."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedjax_kd.report.drawing import Layout, new_figure, plain
from fedjax_kd.report.errors import NothingToShow
from fedjax_kd.report.palette import MUTED, SPLIT_COLOURS
from fedjax_kd.report.results import Frame, Results

_MOST_BUBBLES = 1500


def first_partition(results: Results) -> tuple[int, Frame]:
    """The first seed and its rows of the partition table."""
    table = results.partition
    if table.empty:
        raise NothingToShow("The results do not say who holds which examples.")
    seed = int(results.seeds[0]) if results.seeds else int(table["seed"].min())
    mine = table[table["seed"] == seed]
    if mine.empty:
        seed = int(table["seed"].min())
        mine = table[table["seed"] == seed]
    return seed, mine


def training_counts(rows: Frame) -> Frame:
    """Training examples by user and class id; all splits where there is no training split."""
    chosen = rows[rows["split"] == "train"]
    chosen = rows if chosen.empty else chosen
    counts = chosen.groupby(["user", "class_id"])["count"].sum().unstack("class_id")
    users, classes = sorted(rows["user"].unique()), sorted(rows["class_id"].unique())
    return counts.reindex(index=users, columns=classes).fillna(0)


def draw_partition(results: Results, layout: Layout) -> Figure:
    """Circles by class and user with the users' totals beside them, for the first seed."""
    _, rows = first_partition(results)
    counts = training_counts(rows)
    names = rows.drop_duplicates("class_id").set_index("class_id")["class_name"]
    classes = [plain(names[class_id], most=18) for class_id in counts.columns]
    sizes = rows.groupby(["user", "split"])["count"].sum().unstack("split").fillna(0)
    sizes = sizes.reindex(index=counts.index).fillna(0)
    n_users, n_classes = counts.shape
    if layout.narrow:
        cell_in = 2.0 / n_classes
        figure = new_figure(layout, 1.9 + float(np.clip(0.24 * n_users, 0.8, 16)))
        bubbles, totals = figure.subplots(1, 2, sharey=True, width_ratios=[3, 1.2])
    else:
        cell_in = 8.6 / n_users
        figure = new_figure(layout, 2.0 + float(np.clip(0.3 * n_classes, 0.8, 9)))
        totals, bubbles = figure.subplots(
            2, 1, sharex=True, height_ratios=[1.1, max(1.6, 0.3 * n_classes)]
        )
    matrix = counts.to_numpy() if layout.narrow else counts.to_numpy().T
    _draw_circles(bubbles, matrix, min(cell_in, 0.26))
    _draw_totals(totals, sizes, across=layout.narrow)
    class_ticks = (np.arange(n_classes), classes)
    step = 1 if n_users <= 30 else 5 if n_users <= 120 else 20
    user_ticks = (np.arange(0, n_users, step), [str(user) for user in counts.index[::step]])
    if layout.narrow:
        bubbles.set_xticks(*class_ticks, rotation=90, fontsize=8 if n_classes <= 20 else 5)
        bubbles.set_yticks(*user_ticks, fontsize=8)
        bubbles.set_ylabel("User")
    else:
        bubbles.set_yticks(*class_ticks, fontsize=8.5 if n_classes <= 20 else 6.5)
        bubbles.set_xticks(*user_ticks, fontsize=8.5)
        bubbles.set_xlabel("User")
    place = "outside lower left" if layout.narrow else "outside upper left"
    figure.legend(loc=place, ncols=3, handlelength=1.4)
    return figure


def _draw_circles(axes: Axes, matrix: np.ndarray, cell_in: float) -> None:
    """One circle per cell whose area is the count; a heat map where there are too many cells."""
    if matrix.size > _MOST_BUBBLES:
        axes.pcolormesh(
            np.arange(matrix.shape[1] + 1) - 0.5,
            np.arange(matrix.shape[0] + 1) - 0.5,
            np.sqrt(matrix),
            cmap="Blues",
            rasterized=True,
        )
    else:
        down, across = np.nonzero(matrix)
        held = matrix[down, across]
        diameter_pt = 72 * cell_in * np.sqrt(held / max(held.max(initial=1), 1))
        axes.scatter(
            across,
            down,
            s=np.maximum(diameter_pt, 1.2) ** 2,
            color=SPLIT_COLOURS["train"],
            alpha=0.85,
            linewidths=0,
        )
        axes.grid(True)
    axes.set_xlim(-0.6, matrix.shape[1] - 0.4)
    axes.set_ylim(matrix.shape[0] - 0.4, -0.6)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _draw_totals(axes: Axes, sizes: Frame, across: bool) -> None:
    """Stacked bars of the users' training, validation and test examples."""
    start = np.zeros(len(sizes))
    for split in [*(s for s in SPLIT_COLOURS if s in sizes), *(set(sizes) - set(SPLIT_COLOURS))]:
        height = sizes[split].to_numpy()
        colour = SPLIT_COLOURS.get(split, MUTED)
        if across:
            axes.barh(range(len(sizes)), height, left=start, height=0.7, color=colour, label=split)
        else:
            axes.bar(range(len(sizes)), height, bottom=start, width=0.7, color=colour, label=split)
        start = start + height
    axes.tick_params(length=0)
    if across:
        axes.set_xlabel("examples")
        axes.tick_params(axis="y", labelleft=False)
        axes.locator_params(axis="x", nbins=3)
        axes.spines["left"].set_visible(False)
    else:
        axes.set_ylabel("examples")
        axes.tick_params(axis="x", labelbottom=False)
        axes.locator_params(axis="y", nbins=4)
        axes.spines["bottom"].set_visible(False)
    axes.grid(True, axis="x" if across else "y")
