"""What delay and energy are made of: stacked bars by cause, one per policy."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedjax_kd.report.drawing import Layout, new_figure, plain, value_grid
from fedjax_kd.report.errors import NothingToShow
from fedjax_kd.report.names import CAUSES, PROPOSED, Kind, policy_order
from fedjax_kd.report.numbers import scale_for
from fedjax_kd.report.palette import MUTED, cause_colour
from fedjax_kd.report.pictures.policy_rows import name_rows
from fedjax_kd.report.results import Frame, Results

_PANELS: tuple[tuple[str, str, Kind], ...] = (
    ("delay_s", "Total delay", "seconds"),
    ("energy_j", "Energy", "joules"),
)
_FAR = 3.5  # times the median total, from which a bar is cut at the axis' end


def costs_by_cause(results: Results, column: str) -> Frame:
    """Sum over users and mean over seeds of one ledger column.

    Returns:
        A frame of policies (in the report's order) by causes (in the catalog's order).

    Raises:
        NothingToShow: the ledger is absent or empty.
    """
    ledger = results.ledger
    if ledger.empty:
        raise NothingToShow("The results hold no ledger of delay and energy.")
    sums = ledger.groupby(["policy", "cause", "seed"])[column].sum()
    table = sums.groupby(["policy", "cause"]).mean().unstack("cause").fillna(0.0)
    policies = [p for p in policy_order(results) if p in table.index]
    policies += [p for p in table.index if p not in policies]
    causes = [c for c in CAUSES if c in table.columns]
    causes += [c for c in table.columns if c not in causes]
    return table.reindex(index=policies, columns=causes)


def draw_costs(results: Results, layout: Layout) -> Figure:
    """Delay and energy side by side (or one above the other), policies as rows."""
    tables = [costs_by_cause(results, column) for column, _, _ in _PANELS]
    rows_in = 0.29 * len(tables[0])
    if layout.narrow:
        figure = new_figure(layout, 2 * (rows_in + 0.8) + 0.7)
        panels = figure.subplots(2, 1)
    else:
        figure = new_figure(layout, rows_in + 1.2)
        panels = figure.subplots(1, 2, sharey=True)
    for index, (axes, table, panel) in enumerate(zip(panels, tables, _PANELS, strict=True)):
        _draw_panel(axes, table, panel[1], panel[2])
        if index and not layout.narrow:
            axes.tick_params(axis="y", labelleft=False)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower left" if layout.narrow else "outside upper left",
        ncols=2 if layout.narrow else len(labels),
        handlelength=1.4,
        columnspacing=1.4,
    )
    return figure


def _draw_panel(axes: Axes, table: Frame, title: str, kind: Kind) -> None:
    totals = table.sum(axis=1).to_numpy()
    scale = scale_for(kind, totals)
    usual = totals[totals <= _FAR * np.median(totals)]
    end = float(usual.max() if usual.size else totals.max()) / scale.divisor or 1.0
    left = np.zeros(len(table))
    for cause in table.columns:
        width = table[cause].to_numpy() / scale.divisor
        axes.barh(
            range(len(table)),
            width,
            left=left,
            height=0.72,
            color=cause_colour(str(cause)),
            edgecolor="white",
            linewidth=0.5,
            label=CAUSES.get(str(cause), plain(cause)),
        )
        left = left + width
    limit = 1.24 * end
    for row, total in enumerate(totals):
        cut = total / scale.divisor > limit
        axes.annotate(
            f"{scale.text(total)} »" if cut else scale.text(total),
            (limit if cut else total / scale.divisor, row),
            xytext=(-4 if cut else 4, 0),
            textcoords="offset points",
            ha="right" if cut else "left",
            va="center",
            fontsize=8.5,
            fontweight="bold" if table.index[row] == PROPOSED else "normal",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5} if cut else None,
        )
    axes.set_xlim(0, limit)
    name_rows(axes, [str(policy) for policy in table.index])
    axes.set_title(f"{title} [{scale.unit}]")
    axes.set_xlabel("sum over users, mean over seeds", color=MUTED, fontsize=8.5)
    value_grid(axes)
