"""What work, traffic, time and energy are made of: stacked bars by phase and cause."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from fedjax_kd.report.drawing import Layout, new_figure, plain, value_grid
from fedjax_kd.report.numbers import scale_for
from fedjax_kd.report.palette import MUTED, PHASE_HATCHES, cause_colour
from fedjax_kd.report.pictures.contestant_lines import name_lines
from fedjax_kd.report.rounds_costs import (
    QUANTITIES,
    SERVER,
    Quantity,
    by_phase_and_cause,
    causes_in_order,
    ledger_rows,
    phases_in_order,
)
from fedjax_kd.report.rounds_names import phase_name
from fedjax_kd.report.rounds_results import RoundsResults
from fedjax_kd.report.tables import Frame

_FAR = 4.0  # times the median total, from which a bar is cut at the axis' end
_CAUSES = {
    "downlink": "downlink, received",
    "training": "computing",
    SERVER: "computing at the server",
    "uplink": "uplink, sent",
}


def draw_ledger(results: RoundsResults, layout: Layout) -> Figure:
    """Four panels, contestants as rows; colours are causes, hatching tells the phases apart."""
    ledger = ledger_rows(results)
    tables = [by_phase_and_cause(results, quantity) for quantity in QUANTITIES]
    rows_in = 0.29 * len(tables[0])
    phases = phases_in_order(results)
    paid = {cause for table in tables for _, cause in table.columns}
    causes = [cause for cause in causes_in_order(ledger) if cause in paid]
    if layout.narrow:
        legend_rows = -(-(len(causes) + len(phases)) // 2)
        figure = new_figure(layout, 4 * (rows_in + 0.75) + 0.22 * legend_rows + 0.4)
        grid = figure.subplots(4, 1, squeeze=False)
    else:
        figure = new_figure(layout, 2 * (rows_in + 0.75) + 0.75)
        grid = figure.subplots(2, 2, squeeze=False, sharey=True)
    titles = {each.name: each.title for each in results.contestants}
    first = results.proposed.name if results.proposed else ""
    for place, (axes, table, quantity) in enumerate(
        zip(grid.flat, tables, QUANTITIES, strict=True)
    ):
        _draw_panel(axes, table, quantity, phases)
        axes.locator_params(axis="x", nbins=4 if layout.narrow else 6)
        names = [titles[str(name)] for name in table.index]
        bold = [i for i, name in enumerate(table.index) if name == first]
        name_lines(axes, names, 22 if layout.narrow else 40, bold)
        if place % 2 and not layout.narrow:
            axes.tick_params(axis="y", labelleft=False)
    handles = [
        Patch(facecolor=cause_colour(cause), label=_CAUSES.get(cause, plain(cause)))
        for cause in causes
    ]
    if len(phases) > 1:
        handles += [
            Patch(
                facecolor="white",
                edgecolor=MUTED,
                hatch=_hatch(phases, phase),
                label=f"phase: {plain(phase_name(phase))}",
            )
            for phase in phases
        ]
    figure.legend(
        handles=handles,
        loc="outside lower left",
        ncols=2 if layout.narrow else min(len(handles), 5),
        handlelength=1.8,
        columnspacing=1.4,
    )
    return figure


def _hatch(phases: list[str], phase: str) -> str:
    return PHASE_HATCHES[phases.index(phase) % len(PHASE_HATCHES)]


def _draw_panel(axes: Axes, table: Frame, quantity: Quantity, phases: list[str]) -> None:
    totals = table.sum(axis=1).to_numpy()
    scale = scale_for(quantity.kind, totals[totals > 0])
    paid = totals[totals > 0]
    usual = paid[paid <= _FAR * np.median(paid)] if paid.size else paid
    end = float(usual.max()) / scale.divisor if usual.size else 1.0
    left = np.zeros(len(table))
    for phase, cause in table.columns:
        width = table[phase, cause].to_numpy() / scale.divisor
        axes.barh(
            range(len(table)),
            width,
            left=left,
            height=0.72,
            color=cause_colour(str(cause)),
            edgecolor="white",
            linewidth=0.5,
            hatch=_hatch(phases, phase) if phase in phases else "",
        )
        left = left + width
    limit = 1.24 * end
    for row, total in enumerate(totals):
        cut = total / scale.divisor > limit
        axes.annotate(
            f"{scale.text(total)} »" if cut else scale.text(total) if total else "none",
            (limit if cut else total / scale.divisor, row),
            xytext=(-4 if cut else 4, 0),
            textcoords="offset points",
            ha="right" if cut else "left",
            va="center",
            fontsize=8.5,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.5} if cut else None,
        )
    axes.set_xlim(0, limit)
    axes.set_title(f"{quantity.title} [{scale.unit}]")
    value_grid(axes)
    words = "mean over clients" if quantity.per_client else "sum over everybody"
    axes.set_xlabel(f"{words}, mean over seeds", color=MUTED, fontsize=8.5)
