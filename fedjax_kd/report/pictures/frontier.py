"""Accuracy against delay as the weight of delay in U grows, with the fixed policies as points."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedjax_kd.report.drawing import Layout, new_figure, plain
from fedjax_kd.report.errors import NothingToShow
from fedjax_kd.report.names import (
    PROPOSED,
    counted_accuracies,
    objective_metrics,
    policy_name,
    policy_order,
)
from fedjax_kd.report.numbers import Scale, scale_for
from fedjax_kd.report.palette import policy_look
from fedjax_kd.report.results import Frame, Results
from fedjax_kd.statistics import mean_interval


def draw_frontier(results: Results, layout: Layout) -> Figure:
    """One line per searching policy over its delay weights, one point per other policy."""
    table = results.frontier.dropna(subset=["accuracy", "delay_s"])
    if table.empty:
        raise NothingToShow("The study swept no delay weights, so there is no frontier.")
    swept = [policy for policy in policy_order(results) if policy in set(table["policy"])]
    swept += sorted(set(table["policy"]) - set(swept))
    fixed = fixed_points(results, [p for p in policy_order(results) if p not in swept])
    scale = scale_for("seconds", [*table["delay_s"], *fixed["delay_s"]])
    if layout.narrow:
        figure = new_figure(layout, 3.9 + 0.21 * ((len(swept) + len(fixed) + 1) // 2))
    else:
        figure = new_figure(layout, 4.9)
    axes = figure.subplots()
    means = table.groupby(["policy", "delay_weight"])[["accuracy", "delay_s"]].mean()
    delays = np.array([*means["delay_s"], *fixed["delay_s"]], dtype=float) / scale.divisor
    axes.set_ylim(*_accuracy_limits(np.array([*means["accuracy"], *fixed["accuracy"]])))
    logarithmic = bool((delays > 0).all() and delays.max() > 12 * delays.min())
    if logarithmic:
        axes.set_xscale("log")
        axes.set_xlim(delays.min() / 1.3, delays.max() * 1.3)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_formatter(lambda value, _: "")
    else:
        axes.set_xlim(0, 1.08 * delays.max())
    for policy in sorted(swept, key=lambda each: each == PROPOSED):
        _draw_line(axes, table[table["policy"] == policy], policy, scale)
    for policy, point in fixed.iterrows():
        _draw_point(axes, str(policy), point, scale)
    axes.grid(True)
    axes.tick_params(which="both", length=0)
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:g}")
    delay = "Makespan" if objective_metrics(results)[1] == "makespan_s" else "Total delay"
    axes.set_xlabel(f"{delay} [{scale.unit}]{', log scale' * logarithmic}")
    counted = results.setting("objective.accuracy", "personal")
    scope = "personal and common" if counted == "both" else counted
    axes.set_ylabel(f"Mean {scope} accuracy [%]")
    handles, labels = axes.get_legend_handles_labels()
    order = sorted(range(len(labels)), key=lambda i: labels[i] != plain(policy_name(PROPOSED)))
    figure.legend(
        [handles[i] for i in order],
        [labels[i] for i in order],
        loc="outside lower left" if layout.narrow else "outside right upper",
        ncols=2 if layout.narrow else 1,
        columnspacing=1.0,
        handlelength=1.6,
    )
    return figure


def _accuracy_limits(accuracies: np.ndarray) -> tuple[float, float]:
    """An axis that the means fill; wide intervals of few seeds are cut at its ends."""
    low, high = float(accuracies.min()), float(accuracies.max())
    margin = max(0.3 * (high - low), 0.02)
    return max(low - margin, -0.02), min(high + margin, 1.02)


def fixed_points(results: Results, policies: list[str]) -> Frame:
    """Accuracy and delay of policies that have one decision per seed, on the frontier's terms.

    Args:
        results: the study.
        policies: those wanted; the ones without numbers are left out.

    Returns:
        A frame by policy: `accuracy` and `delay_s`, each with the ends of its 95 % interval, `_low`
        and `_high`.
    """
    delay = objective_metrics(results)[1]
    columns = counted_accuracies(results)
    points = {}
    for policy in policies:
        rows = results.metrics[results.metrics["scope"] == f"policy/{policy}"]
        by_seed = rows.pivot_table(index="seed", columns="metric", values="value")
        if not {*columns, delay} <= set(by_seed.columns):
            continue
        points[policy] = (
            *mean_interval(by_seed[columns].mean(axis=1)),
            *mean_interval(by_seed[delay]),
        )
    names = [f"{name}{end}" for name in ("accuracy", "delay_s") for end in ("", "_low", "_high")]
    return pd.DataFrame.from_dict(points, orient="index", columns=names).dropna(
        subset=["accuracy", "delay_s"]
    )


def _draw_line(axes: Axes, table: Frame, policy: str, scale: Scale) -> None:
    look, proposed = policy_look(policy), policy == PROPOSED
    points = []
    for weight, group in table.groupby("delay_weight"):
        points.append((weight, *mean_interval(group["accuracy"]), *mean_interval(group["delay_s"])))
    weights, accuracy, low, high, delay, _, _ = np.array(points, dtype=float).T
    delay = delay / scale.divisor
    axes.plot(
        delay,
        accuracy,
        marker=look.marker,
        color=look.colour,
        linewidth=2.2 if proposed else 1.4,
        markersize=7.5 if proposed else 5.5,
        markeredgecolor="white",
        markeredgewidth=0.8,
        label=plain(policy_name(policy)),
        zorder=4 if proposed else 3,
    )
    if np.isfinite(low).all():
        order = np.argsort(delay)
        axes.fill_between(
            delay[order],
            low[order],
            high[order],
            color=look.colour,
            alpha=0.16 if proposed else 0.06,
            linewidth=0,
        )
    if proposed:
        for text, x, y in _weight_labels(axes, weights, delay, accuracy):
            axes.annotate(
                text,
                (x, y),
                xytext=(0, 8),
                textcoords="offset points",
                ha="center",
                fontsize=8.5,
                color=look.colour,
                fontweight="bold",
            )


def _weight_labels(
    axes: Axes, weights: np.ndarray, delay: np.ndarray, accuracy: np.ndarray
) -> list[tuple[str, float, float]]:
    """One text for each run of points so close together that their weights would overlap."""
    across = axes.transAxes.inverted()
    inside = across.transform(axes.transData.transform(np.stack([delay, accuracy], axis=1)))
    runs: list[list[int]] = []
    for index in range(len(weights)):
        if runs and np.all(np.abs(inside[index] - inside[runs[-1][0]]) < (0.07, 0.05)):
            runs[-1].append(index)
        else:
            runs.append([index])
    return [
        (
            f"{weights[run[0]]:g}" + (f" to {weights[run[-1]]:g}" if len(run) > 1 else ""),
            float(delay[run[0]]),
            float(accuracy[run[0]]),
        )
        for run in runs
    ]


def _draw_point(axes: Axes, policy: str, point: Frame, scale: Scale) -> None:
    look = policy_look(policy)
    x = point["delay_s"] / scale.divisor
    axes.plot(
        x,
        point["accuracy"],
        look.marker,
        color=look.colour,
        markersize=look.size + 1.5,
        markeredgecolor="white",
        markeredgewidth=0.7,
        linestyle="none",
        label=plain(policy_name(policy)),
        zorder=3,
    )
    for ends, fixed, across in (
        (("accuracy_low", "accuracy_high"), x, False),
        (("delay_s_low", "delay_s_high"), point["accuracy"], True),
    ):
        low, high = (point[end] / (scale.divisor if across else 1.0) for end in ends)
        if not np.isfinite(low):
            continue
        along = [max(low, 0.02 * x) if across else low, high]
        other = [fixed, fixed]
        axes.plot(
            *((along, other) if across else (other, along)),
            color=look.colour,
            linewidth=1.0,
            alpha=0.55,
            scalex=False,
            scaley=False,
        )
