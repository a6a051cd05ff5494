"""On-device KD: teacher and target over the rounds, and the growing weight of distillation."""

from __future__ import annotations

from matplotlib.figure import Figure

from fedjax_kd.report.drawing import Layout, new_figure
from fedjax_kd.report.errors import NothingToShow
from fedjax_kd.report.pictures.contestant_lines import (
    draw_rounds,
    focused,
    legend_columns,
    rounds_axis,
)
from fedjax_kd.report.rounds_names import row_name, scopes_in_order
from fedjax_kd.report.rounds_results import Contestant, RoundsResults
from fedjax_kd.report.rounds_values import curve, shown_contestants
from fedjax_kd.report.tables import Frame

WEIGHT = "distillation_weight"


def with_target(results: RoundsResults) -> list[Contestant]:
    """The proposed method and every contestant that trains the target too."""
    return [
        each
        for each in shown_contestants(results)
        if each == results.proposed or "target" in each.views or each.name.startswith("target")
    ]


def special_curve(results: RoundsResults, contestant: str, name: str) -> Frame:
    """Mean, lowest and highest over the seeds of what a method reported, by round."""
    table = results.special
    rows = table[(table["contestant"] == contestant) & (table["name"] == name)]
    values = rows.dropna(subset=["value"]).groupby("round")["value"]
    return values.agg(mean="mean", low="min", high="max").sort_index()


def draw_distillation(results: RoundsResults, layout: Layout) -> Figure:
    """Accuracies above, one panel each; below them the weight, over the same rounds."""
    shown = with_target(results)
    lines = [
        (scope, each, view, values)
        for scope in scopes_in_order(results)
        for each in shown
        for view in (each.views if each == results.proposed else each.views[:1])
        if len(values := curve(results, each.name, view, f"accuracy_{scope}"))
    ]
    weights = [
        (each, values) for each in shown if len(values := special_curve(results, each.name, WEIGHT))
    ]
    if not lines:
        raise NothingToShow("The results hold no curve of the target model.")
    scopes = list(dict.fromkeys(scope for scope, *_ in lines))
    across = 1 if layout.narrow else len(scopes)
    names = {(each.name, view): row_name(each, view) for _, each, view, _ in lines}
    if layout.narrow:
        rows = [*scopes, *(["weight"] if weights else [])]
        heights = [2.5 if row != "weight" else 1.3 for row in rows]
    else:
        heights = [2.9, 1.2] if weights else [2.9]
    extra = (
        0.2
        * (len(names) if layout.narrow else -(-len(names) // legend_columns(list(names.values()))))
        + 0.4
    )
    figure = new_figure(layout, sum(heights) + extra)
    grid = figure.subplots(len(heights), across, squeeze=False, sharex=True, height_ratios=heights)
    top = grid[: len(scopes), 0] if layout.narrow else grid[0]
    for axes, scope in zip(top, scopes, strict=True):
        for which, each, view, values in lines:
            if which == scope:
                draw_rounds(axes, values, results, each, view, names[each.name, view])
        focused(axes, [values["mean"] for which, *_, values in lines if which == scope])
        axes.set_title(f"{scope.capitalize()} accuracy [%]")
        rounds_axis(axes, "" if weights else "Round")
    if weights:
        bottom = grid[-1, :] if not layout.narrow else grid[-1:, 0]
        for axes in bottom:
            for each, values in weights:
                draw_rounds(axes, values, results, each, each.views[0], "", factor=1.0)
            axes.set_title("Weight of distillation ω")
            axes.set_ylim(bottom=0)
            rounds_axis(axes)
    handles, labels = top[0].get_legend_handles_labels()
    columns = 1 if layout.narrow else legend_columns(labels)
    figure.legend(handles, labels, loc="outside lower left", ncols=columns, handlelength=2.4)
    return figure


def distillation_remark(results: RoundsResults) -> str:
    """How far target and teacher end from each other, and what distillation adds."""
    proposed = results.proposed
    if proposed is None or len(proposed.views) < 2:
        return ""
    ends = {}
    for view in proposed.views:
        values = curve(results, proposed.name, view, "accuracy_common")
        if len(values):
            ends[view] = 100 * float(values["mean"].iloc[-1])
    if len(ends) < 2 or not {"target", "auxiliary"} <= set(ends):
        return ""
    gap = ends["target"] - ends["auxiliary"]
    side = "above" if gap >= 0 else "below"
    return (
        f"After the last round the target model stands at {ends['target']:.1f} % common accuracy, "
        f"{abs(gap):.1f} points {side} the auxiliary model that teaches it."
    )
