"""Curves over time: U over the episodes of Q-learning, and the teacher over its rounds."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedjax_kd.report.drawing import Layout, new_figure
from fedjax_kd.report.errors import NothingToShow
from fedjax_kd.report.names import policy_name
from fedjax_kd.report.palette import INK, MUTED, policy_look
from fedjax_kd.report.results import Frame, Results

_EPISODE = ("episode_utility", "episode (exploring)", "#98a2b3", 1.0)
_BEST = ("best_utility", "best so far", "#0072b2", 1.9)
_GREEDY = ("greedy_utility", "greedy roll-out of the table", "#d55e00", 1.9)
_TRAINED = {
    "teacher": ("teacher", "#7a5195"),
    "fedavg": (policy_name("fedavg_smallest"), policy_look("fedavg_smallest").colour),
}


def draw_learning(results: Results, layout: Layout) -> Figure:
    """U of the episode, of the best decision so far and of the greedy roll-out, over episodes."""
    rows = results.metrics[results.metrics["scope"] == "q_learning"]
    curves = {
        each: _curve(rows, each[0])
        for each in (_EPISODE, _BEST, _GREEDY)
        if (rows["metric"] == each[0]).any()
    }
    if not curves:
        raise NothingToShow("The results hold no learning curve of the Q-table.")
    figure = new_figure(layout, 4.2 if layout.narrow else 4.4)
    axes = figure.subplots()
    shift = 1 if min(curve.index.min() for curve in curves.values()) < 1 else 0
    for (key, label, colour, width), curve in curves.items():
        episodes = curve.index.to_numpy() + shift
        axes.plot(episodes, curve["mean"], color=colour, linewidth=width, label=label)
        if _varies(curve):
            alpha = 0.13 if key == _EPISODE[0] else 0.2
            axes.fill_between(
                episodes, curve["low"], curve["high"], color=colour, alpha=alpha, linewidth=0
            )
    levels = _draw_levels(axes, results)
    ends = [float(curve["mean"].iloc[-1]) for curve in curves.values()]
    bulk = np.concatenate([curve["mean"].to_numpy() for curve in curves.values()])
    bottom = float(np.percentile(bulk[np.isfinite(bulk)], 8))
    tops = [*ends, *levels, *(float(curve["high"].max()) for curve in curves.values())]
    top = max(tops)
    span = max(top - bottom, 1e-3)
    axes.set_ylim(bottom - 0.05 * span, top + 0.08 * span)
    axes.set_xscale("log")
    axes.set_xlim(left=min(curve.index.min() for curve in curves.values()) + shift)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.grid(True)
    axes.tick_params(which="both", length=0)
    axes.set_xlabel("Episode, log scale")
    axes.set_ylabel("U (planned)")
    place = "outside lower left" if layout.narrow else "outside right upper"
    figure.legend(loc=place, ncols=1, handlelength=1.8)
    return figure


def _draw_levels(axes: Axes, results: Results) -> list[float]:
    """Dashed lines at the exhaustive optimum and at the greedy policy, where the study has them."""
    levels = []
    best = results.metrics[results.metrics["scope"] == "exhaustive"]["value"].dropna()
    if len(best):
        levels.append(float(best.mean()))
        dashes = (0, (5, 3))
        axes.axhline(
            levels[-1], color=INK, linestyle=dashes, linewidth=1.4, label="exhaustive optimum"
        )
    rows = results.metrics
    rows = rows[(rows["scope"] == "policy/greedy") & (rows["metric"] == "utility_planned")]
    if len(rows):
        levels.append(float(rows["value"].mean()))
        axes.axhline(
            levels[-1],
            color=policy_look("greedy").colour,
            linestyle=(0, (1, 2)),
            linewidth=1.6,
            label=policy_name("greedy"),
        )
    return levels


def draw_teacher(results: Results, layout: Layout) -> Figure:
    """Common accuracy and loss after each round: the teacher's, and FedAvg's beside it."""
    if not (results.metrics["scope"] == "teacher").any():
        raise NothingToShow("The results hold no curve of the teacher.")
    curves = {
        (metric, scope): _curve(results.metrics[results.metrics["scope"] == scope], metric)
        for metric in ("accuracy_common", "loss")
        for scope in ("teacher", "fedavg")
    }
    curves = {key: curve for key, curve in curves.items() if len(curve)}
    titles = {"accuracy_common": "Accuracy on common data [%]", "loss": "Loss"}
    panels = [metric for metric in titles if any(key[0] == metric for key in curves)]
    if not panels:
        raise NothingToShow("The results hold no curve of the teacher.")
    down = len(panels) if layout.narrow else 1
    figure = new_figure(layout, 2.5 * down + 0.4 if layout.narrow else 3.1)
    grid = figure.subplots(down, len(panels) // down, squeeze=False)
    for axes, metric in zip(grid.flat, panels, strict=True):
        for scope, (name, colour) in _TRAINED.items():
            if (metric, scope) in curves:
                factor = 100 if metric == "accuracy_common" else 1
                _draw_rounds(axes, factor * curves[metric, scope], name, colour)
        axes.set_title(titles[metric])
        axes.set_xlabel("Round", color=MUTED)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(True)
        axes.tick_params(length=0)
    if any(scope == "fedavg" for _, scope in curves):
        handles, labels = grid.flat[0].get_legend_handles_labels()
        place = "outside lower left" if layout.narrow else "outside upper left"
        figure.legend(handles, labels, loc=place, ncols=2)
    return figure


def _draw_rounds(axes: Axes, curve: Frame, name: str, colour: str) -> None:
    axes.plot(
        curve.index,
        curve["mean"],
        color=colour,
        linewidth=2,
        marker="o" if len(curve) <= 40 else None,
        markersize=3.5,
        label=name,
    )
    if _varies(curve):
        axes.fill_between(curve.index, curve["low"], curve["high"], color=colour, alpha=0.18, lw=0)


def _curve(rows: Frame, metric: str) -> Frame:
    """Mean, lowest and highest over the seeds, by round."""
    values = rows[rows["metric"] == metric].groupby("round")["value"]
    return values.agg(mean="mean", low="min", high="max").sort_index()


def _varies(curve: Frame) -> bool:
    """Whether there is a range over the seeds to shade."""
    return bool((curve["high"] > curve["low"]).any())
