"""DFML: the cycle of the weight of distillation, and what peak and regular models make of it."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedjax_kd.report.drawing import Layout, new_figure, plain
from fedjax_kd.report.errors import NothingToShow
from fedjax_kd.report.palette import ACCENT_BAND
from fedjax_kd.report.pictures.contestant_lines import draw_rounds, look_of, rounds_axis, thinned
from fedjax_kd.report.pictures.rounds_distillation import special_curve
from fedjax_kd.report.rounds_names import row_name, scopes_in_order
from fedjax_kd.report.rounds_results import RoundsResults
from fedjax_kd.report.rounds_values import curve, shown_contestants

ALPHA = "alpha"
_FLOOR = 0.9


def peak_rounds(rounds: np.ndarray, alpha: np.ndarray, floor: float) -> list[tuple[float, float]]:
    """First and last round of each stretch in which alpha is at least `floor` times its largest."""
    if not alpha.size or alpha.max() <= 0:
        return []
    high = np.concatenate([[False], alpha >= floor * alpha.max(), [False]])
    starts = np.flatnonzero(~high[:-1] & high[1:])
    ends = np.flatnonzero(high[:-1] & ~high[1:]) - 1
    return [
        (float(rounds[start]), float(rounds[end])) for start, end in zip(starts, ends, strict=True)
    ]


def draw_cycle(results: RoundsResults, layout: Layout) -> Figure:
    """Alpha above; below, the accuracies of the proposed method's views over the same rounds."""
    proposed = results.proposed
    if proposed is None:
        raise NothingToShow("The results name no contestants.")
    alphas = [
        (each, values)
        for each in shown_contestants(results)
        if len(values := special_curve(results, each.name, ALPHA))
    ]
    lines = [
        (scope, view, values)
        for scope in scopes_in_order(results)
        for view in proposed.views
        if len(values := curve(results, proposed.name, view, f"accuracy_{scope}"))
    ]
    if not alphas or not lines:
        raise NothingToShow("The results hold no cycle of the weight of distillation.")
    scopes = list(dict.fromkeys(scope for scope, *_ in lines))
    tall = 2.3
    figure = new_figure(layout, 1.35 + tall * len(scopes) + (0.9 if layout.narrow else 0.6))
    grid = figure.subplots(
        1 + len(scopes), 1, sharex=True, squeeze=False, height_ratios=[1.35, *[tall] * len(scopes)]
    )[:, 0]
    mine = next((values for each, values in alphas if each == proposed), alphas[0][1])
    floor = float(results.setting("peak_floor", _FLOOR))
    bands = peak_rounds(mine.index.to_numpy(dtype=float), mine["mean"].to_numpy(), floor)
    for axes in grid:
        # A schedule that stays at its largest has no peaks to mark.
        for first, last in bands if len(bands) > 1 or bands[:1] != _whole(mine) else ():
            axes.axvspan(first - 0.5, last + 0.5, color=ACCENT_BAND, zorder=0, linewidth=0)
    for each, values in alphas:
        values = thinned(values)
        look, first = look_of(results, each), each == proposed
        grid[0].plot(
            values.index,
            values["mean"],
            color=look.colour,
            linewidth=2.2 if first else 1.3,
            label=plain(each.title, 34),
            zorder=4 if first else 3,
        )
    grid[0].set_title("Weight of distillation α")
    rounds_axis(grid[0], "")
    for axes, scope in zip(grid[1:], scopes, strict=True):
        for which, view, values in lines:
            if which == scope:
                draw_rounds(axes, values, results, proposed, view, row_name(proposed, view))
        axes.set_title(f"{scope.capitalize()} accuracy [%]")
        rounds_axis(axes, "Round" if scope == scopes[-1] else "")
    _legend(figure, layout, grid[0] if len(alphas) > 1 else None, grid[1])
    return figure


def _whole(values) -> list[tuple[float, float]]:
    return [(float(values.index[0]), float(values.index[-1]))]


def _legend(figure: Figure, layout: Layout, above: Axes | None, below: Axes) -> None:
    handles, labels = below.get_legend_handles_labels()
    if above is not None:
        more = zip(*above.get_legend_handles_labels(), strict=True)
        for handle, label in [each for each in more][1:]:
            handles.append(handle)
            labels.append(f"α of {label}")
    figure.legend(
        handles,
        labels,
        loc="outside lower left",
        ncols=1 if layout.narrow else 3,
        handlelength=2.4,
    )


def cycle_remark(results: RoundsResults) -> str:
    """How much the regular models swing, and how far the peak models are above them."""
    proposed = results.proposed
    if proposed is None or not {"peak", "regular"} <= set(proposed.views):
        return ""
    peak, regular = (
        curve(results, proposed.name, view, "accuracy_common")["mean"]
        for view in ("peak", "regular")
    )
    both = (100 * (peak - regular)).dropna()
    half = both.iloc[len(both) // 2 :]
    if half.empty:
        return ""
    swing = 100 * regular.iloc[len(regular) // 2 :]
    return (
        "Over the second half of the rounds the regular models' common accuracy lies between "
        f"{swing.min():.1f} and {swing.max():.1f} % (means over the seeds); the peak models are "
        f"{abs(half.mean()):.1f} points {'above' if half.mean() >= 0 else 'below'} them on average."
    )
