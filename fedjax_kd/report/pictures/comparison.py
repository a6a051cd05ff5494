"""The policies side by side: a dot and its 95 % interval for accuracy, delay, energy and U."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedjax_kd.report.drawing import Layout, new_figure, value_grid
from fedjax_kd.report.errors import NothingToShow
from fedjax_kd.report.names import METRICS, PROPOSED, Metric, policy_order
from fedjax_kd.report.numbers import Scale, scale_for
from fedjax_kd.report.palette import ACCENT_BAND, MUTED, policy_look
from fedjax_kd.report.pictures.policy_rows import name_rows
from fedjax_kd.report.results import Results

_SHOWN = ("accuracy_personal_mean", "accuracy_common_mean", "delay_s", "energy_j", "utility")
_FAR = 1.2  # spans of the other policies, from which one lies outside of its panel
_LOG_FROM = 12.0  # largest mean over smallest, from which an axis of delay or energy is logarithmic


def draw_comparison(results: Results, layout: Layout) -> Figure:
    """One panel per metric, one row per policy; panels without numbers are left out."""
    metrics = [
        metric
        for metric in METRICS
        if metric.key in _SHOWN
        and metric.key in results.summary.columns
        and results.summary[metric.key].notna().any()
    ]
    policies = policy_order(results)
    if not metrics or not policies:
        raise NothingToShow("The summary has no policy to compare.")
    rows_in = 0.27 * len(policies)
    if layout.narrow:
        figure = new_figure(layout, (rows_in + 0.75) * len(metrics))
        panels = figure.subplots(len(metrics), 1, squeeze=False)[:, 0]
    else:
        figure = new_figure(layout, rows_in + 1.0)
        panels = figure.subplots(1, len(metrics), squeeze=False, sharey=True)[0]
    for index, (axes, metric) in enumerate(zip(panels, metrics, strict=True)):
        _draw_panel(axes, results, metric, policies)
        if index and not layout.narrow:
            axes.tick_params(axis="y", labelleft=False)
    return figure


def _draw_panel(axes: Axes, results: Results, metric: Metric, policies: list[str]) -> None:
    columns = {
        suffix: results.summary[name].reindex(policies).to_numpy(dtype=float)
        if (name := f"{metric.key}{suffix}") in results.summary.columns
        else np.full(len(policies), np.nan)
        for suffix in ("", "_low", "_high")
    }
    scale = scale_for(metric.kind, columns[""])
    means, lows, highs = (columns[key] / scale.divisor for key in ("", "_low", "_high"))
    positive = means[np.isfinite(means) & (means > 0)]
    logarithmic = (
        metric.kind in ("seconds", "joules")
        and positive.size == np.isfinite(means).sum()
        and positive.max() > _LOG_FROM * positive.min()
    )
    left, right = panel_limits(means, lows, highs, logarithmic)
    for row, policy in enumerate(policies):
        if not np.isfinite(means[row]):
            continue
        look, proposed = policy_look(policy), policy == PROPOSED
        if means[row] < left or means[row] > right:
            mark_beyond(axes, row, means[row], (left, right), look.colour, scale)
            continue
        if np.isfinite(lows[row]):
            ends = np.clip([lows[row], highs[row]], left, right)
            axes.plot(
                ends, [row, row], color=look.colour, linewidth=2.6 if proposed else 1.6, alpha=0.75
            )
        axes.plot(
            means[row],
            row,
            look.marker,
            color=look.colour,
            markersize=9 if proposed else look.size,
            markeredgecolor="white",
            markeredgewidth=0.7,
            zorder=3,
        )
    if PROPOSED in policies:
        at = policies.index(PROPOSED)
        axes.axhspan(at - 0.5, at + 0.5, color=ACCENT_BAND, zorder=0, linewidth=0)
    if logarithmic:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_formatter(lambda value, _: "")
    axes.set_xlim(left, right)
    value_grid(axes)
    axes.set_title(metric.title + (f" [{scale.unit}]" if scale.unit else ""), fontsize=9.5)
    name_rows(axes, policies)
    better = "more is better →" if metric.better == "high" else "← less is better"
    axes.set_xlabel(better + (", log scale" if logarithmic else ""), color=MUTED, fontsize=8.5)


def panel_limits(
    means: np.ndarray, lows: np.ndarray, highs: np.ndarray, logarithmic: bool
) -> tuple[float, float]:
    """An axis that the bulk of the policies fills; one that lies far off may fall outside it."""
    if logarithmic:
        low, high = np.log(np.nanmin(means)), np.log(np.nanmax(means))
        pad = 0.15 * (high - low)
        return float(np.exp(low - pad)), float(np.exp(high + pad))
    core = _core(means)
    low, high = means[core].min(), means[core].max()
    span = max(high - low, 0.02 * abs(high), 1e-6)
    with_low = np.nanmin(np.append(lows[core], low))
    with_high = np.nanmax(np.append(highs[core], high))
    low, high = max(with_low, low - 0.6 * span), min(with_high, high + 0.6 * span)
    pad = 0.06 * (high - low) or span
    return float(low - pad), float(high + pad)


def _core(means: np.ndarray) -> np.ndarray:
    """Which means an axis must show: all, or all but one or two that would squeeze the others."""
    known = np.isfinite(means)
    order = np.argsort(np.where(known, -np.abs(means - np.nanmedian(means)), np.inf))
    for cut in (2, 1):
        core = known.copy()
        core[order[:cut]] = False
        if core.sum() < 3:
            continue
        low, high = means[core].min(), means[core].max()
        outside = np.maximum(low - means[order[:cut]], means[order[:cut]] - high)
        if high > low and (outside > _FAR * (high - low)).all():
            return core
    return known


def mark_beyond(
    axes: Axes,
    row: float,
    mean: float,
    limits: tuple[float, float],
    colour: str,
    scale: Scale,
) -> None:
    """An arrow at the axis' end with the number, for a policy far outside of the others."""
    left, right = limits
    beyond_left = mean < left
    step = 0.03 * (right - left)
    axes.plot(
        left + step if beyond_left else right - step,
        row,
        "<" if beyond_left else ">",
        color=colour,
        markersize=6,
    )
    axes.annotate(
        scale.text(mean * scale.divisor),
        (left + 2.2 * step if beyond_left else right - 2.2 * step, row),
        ha="left" if beyond_left else "right",
        va="center",
        fontsize=8.5,
        color=MUTED,
    )
