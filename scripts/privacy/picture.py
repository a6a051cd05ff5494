"""The picture: own accuracy against epsilon, and against the bits that each number takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from fedjax_kd.report.drawing import picture_style, svg_document
from fedjax_kd.report.palette import INK, MUTED

TITLES = {"fd": "FD, class tables", "ds_fl": "DS-FL, public scores"}
COLOURS = {"fd": "#d55e00", "ds_fl": "#0072b2"}
LOCAL = "#808080"
LINES = {"quantised": ("-", "o"), "secure sum": ("--", "s")}


def draw(summary: pd.DataFrame, users: int) -> str:
    """An SVG document.

    Args:
        summary: one row per method and channel with `accuracy` and `half` in percent, as
            `page.summary_of` makes it.
        users: who share the noise.
    """
    with picture_style():
        figure = Figure(figsize=(9.2, 3.9))
        figure.set_layout_engine("constrained", w_pad=0.06, h_pad=0.06)
        noise, bits = figure.subplots(1, 2, sharey=True)
        local = _the_row(summary, "local", "nothing sent")
        for axes in (noise, bits):
            low, high = local.accuracy - local.half, local.accuracy + local.half
            axes.axhspan(low, high, color=LOCAL, alpha=0.18, linewidth=0)
            axes.axhline(local.accuracy, color=LOCAL, linewidth=1.2, label="Local")
            axes.set_xscale("log", base=10 if axes is noise else 2)
            axes.grid(True, axis="y")
        for method, colour in COLOURS.items():
            own = summary.query("method == @method")
            noisy = own.query("channel == 'noise' and epsilon < inf", local_dict={"inf": np.inf})
            _line(noise, noisy.sort_values("epsilon"), "epsilon", TITLES[method], colour)
            plain = _the_row(summary, method, "exact")
            noise.axhline(plain.accuracy, color=colour, linewidth=0.9, linestyle=(0, (1, 2)))
            for channel, (line, marker) in LINES.items():
                part = own.query("channel in (@channel, 'exact')").sort_values("bits_per_number")
                label = f"{TITLES[method]}, {channel}"
                _line(bits, part, "bits_per_number", label, colour, line, marker)
        noise.set_xlabel(f"epsilon at delta 1e-5, a client of {users} (smaller is more private)")
        noise.set_ylabel("accuracy on own test data, last round [%]", color=MUTED)
        noise.set_title("Noise; dotted: the method without it")
        bits.set_xlabel("bits sent for each entry of the whole table or score matrix")
        bits.set_title("Bits")
        noise.set_xticks(sorted(e for e in summary["epsilon"].unique() if np.isfinite(e)))
        for axes in (noise, bits):
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.legend(fontsize=8, loc="lower right")
        return svg_document(figure)


def _the_row(summary: pd.DataFrame, method: str, channel: str) -> Any:
    (row,) = summary.query("method == @method and channel == @channel").itertuples()
    return row


def _line(
    axes: Axes,
    rows: pd.DataFrame,
    across: str,
    label: str,
    colour: str,
    line: str = "-",
    marker: str = "o",
) -> None:
    axes.errorbar(
        rows[across],
        rows["accuracy"],
        yerr=rows["half"],
        label=label,
        color=colour,
        ecolor=colour,
        elinewidth=0.8,
        capsize=2,
        linestyle=line,
        marker=marker,
        markersize=4.5,
        markeredgecolor=INK,
        markeredgewidth=0.3,
        linewidth=1.5,
    )
