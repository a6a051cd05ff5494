"""pFedAFM: the mixing vectors after the last round, and their way there."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedjax_kd.report.drawing import Layout, new_figure, plain
from fedjax_kd.report.errors import NothingToShow
from fedjax_kd.report.palette import MUTED, student_colours
from fedjax_kd.report.pictures.contestant_lines import rounds_axis, thinned
from fedjax_kd.report.rounds_people import group_order, user_groups
from fedjax_kd.report.rounds_results import Contestant, RoundsResults
from fedjax_kd.report.tables import Frame

MEAN = "mixing_mean"
_MOST_PANELS = 3  # contestants side by side


def mixing_contestants(results: RoundsResults) -> list[Contestant]:
    """Those that have mixing vectors, in the manifest's order; three at most."""
    named = set(results.mixing["contestant"].unique()) if len(results.mixing) else set()
    return [each for each in results.contestants if each.name in named][:_MOST_PANELS]


def mixing_vectors(results: RoundsResults, contestant: str) -> tuple[int, Frame]:
    """The first seed and its vectors: users (group by group) in rows, features in columns.

    Features are sorted by their mean over the users, the largest first.
    """
    rows = results.mixing[results.mixing["contestant"] == contestant]
    seed = int(rows["seed"].min())
    rows = rows[rows["seed"] == seed]
    table = rows.pivot_table(index="user", columns="feature", values="value")
    groups = user_groups(results)
    order = {group: place for place, group in enumerate(group_order(results))}
    users = sorted(table.index, key=lambda user: (order.get(groups.get(int(user), ""), 99), user))
    columns = table.mean(axis=0).sort_values(ascending=False, kind="stable").index
    return seed, table.loc[users, columns]


def mixing_course(results: RoundsResults, contestant: str) -> dict[str, Frame]:
    """Of each group the mean of its users' mixing vectors by round, with the seeds' range.

    A user that does not take part in a round keeps its vector, and so its value.
    """
    table = results.special
    rows = table[(table["contestant"] == contestant) & (table["name"] == MEAN)]
    if rows.empty:
        return {}
    wide = rows.pivot_table(index="round", columns=["seed", "index"], values="value")
    wide = wide.where(wide != 0).ffill()  # zero is what a method reports of users that are away
    groups = user_groups(results)
    named = [groups.get(int(user), "") for user in wide.columns.get_level_values("index")]
    course = {}
    for group in group_order(results):
        mine = wide.loc[:, [name == group for name in named]]
        by_seed = mine.T.groupby(level="seed").mean().T
        if by_seed.notna().to_numpy().any():
            parts = {"mean": by_seed.mean(axis=1), "low": by_seed.min(axis=1)}
            course[group] = by_seed.assign(**parts, high=by_seed.max(axis=1))[
                ["mean", "low", "high"]
            ].dropna()
    return course


def draw_mixing(results: RoundsResults, layout: Layout) -> Figure:
    """Per contestant a heat map, the distribution and the mean over the rounds, in a column."""
    shown = mixing_contestants(results)
    if not shown:
        raise NothingToShow("The results hold no mixing vectors.")
    vectors = {each.name: mixing_vectors(results, each.name)[1] for each in shown}
    courses = {each.name: mixing_course(results, each.name) for each in shown}
    groups = group_order(results)
    colours = student_colours(groups)
    users = max(len(table) for table in vectors.values())
    heights = [float(np.clip(0.14 * users, 1.2, 5)) + 0.7, 2.2]
    heights += [2.2] if any(courses.values()) else []
    across = 1 if layout.narrow else len(shown)
    legend_in = 0.22 * (-(-len(groups) // 2) if layout.narrow else 1) + 0.3
    stacks = len(shown) if layout.narrow else 1
    figure = new_figure(layout, stacks * (sum(heights) + 0.1) + legend_in)
    grid = figure.subplots(
        len(heights) * stacks, across, squeeze=False, height_ratios=heights * stacks
    )
    low = min(float(np.nanpercentile(table.to_numpy(), 2)) for table in vectors.values())
    low = float(np.clip(np.floor(20 * low) / 20, 0, 0.95))
    start = [values["mean"].min() for course in courses.values() for values in course.values()]
    for place, each in enumerate(shown):
        column = grid[place * len(heights) : (place + 1) * len(heights), 0]
        column = column if layout.narrow else grid[:, place]
        image = _draw_map(column[0], vectors[each.name], results, low)
        column[0].set_title(plain(each.title, 34))
        _draw_distribution(column[1], vectors[each.name], results, colours, low)
        if len(heights) > 2:
            _draw_course(column[2], courses[each.name], colours)
            if start:
                span = max(1 - min(start), 0.01)
                column[2].set_ylim(min(start) - 0.08 * span, 1 + 0.08 * span)
        if layout.narrow or place == len(shown) - 1:
            bar = figure.colorbar(image, ax=column[0], fraction=0.05, pad=0.02)
            bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
            bar.ax.tick_params(length=0)
            bar.set_label("α", rotation=0)
    handles, labels = grid.flat[1 if layout.narrow else across].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower left",
        ncols=2 if layout.narrow else min(len(labels), 6),
        handlelength=1.8,
    )
    return figure


def _draw_map(axes: Axes, table: Frame, results: RoundsResults, low: float):
    # Rows are repeated, for a viewer that smooths pictures would blur the users into one another.
    values = np.repeat(table.to_numpy(dtype=float), 8, axis=0)
    image = axes.imshow(
        values,
        aspect="auto",
        interpolation="none",
        cmap="cividis",
        vmin=low,
        vmax=1.0,
        extent=(0.0, float(table.shape[1]), float(len(table)), 0.0),
    )
    groups = [user_groups(results).get(int(user), "") for user in table.index]
    starts = [i for i, group in enumerate(groups) if i == 0 or group != groups[i - 1]]
    ends = [*starts[1:], len(groups)]
    for start in starts[1:]:
        axes.axhline(start, color="white", linewidth=1.6)
    middles = [(start + end) / 2 for start, end in zip(starts, ends, strict=True)]
    axes.set_yticks(middles, [plain(groups[start], 16) for start in starts], fontsize=8)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("features, by their mean over the users", color=MUTED, fontsize=8.5)
    return image


def _draw_distribution(
    axes: Axes, table: Frame, results: RoundsResults, colours: dict[str, str], low: float
) -> None:
    """Which share of a group's entries is at most so large: a curve at the far left has moved."""
    groups = user_groups(results)
    steps = np.linspace(low, 1.0, 101)
    for group, colour in colours.items():
        rows = [user for user in table.index if groups.get(int(user)) == group]
        entries = np.sort(table.loc[rows].to_numpy(dtype=float).ravel())
        entries = entries[np.isfinite(entries)]
        if entries.size:
            share = np.searchsorted(entries, steps, side="right") / entries.size
            axes.plot(steps, 100 * share, color=colour, linewidth=1.9, label=plain(group, 20))
    axes.set_xlim(low, 1.0)
    axes.set_ylim(-2, 102)
    axes.grid(True)
    axes.tick_params(length=0)
    axes.set_xlabel("α after the last round", color=MUTED, fontsize=8.5)
    axes.set_title("Entries up to α [%]", fontsize=9.5)


def _draw_course(axes: Axes, course: dict[str, Frame], colours: dict[str, str]) -> None:
    for group, values in course.items():
        values = thinned(values)
        axes.plot(values.index, values["mean"], color=colours[group], linewidth=1.9)
        if (values["high"] > values["low"]).any():
            axes.fill_between(
                values.index,
                values["low"],
                values["high"],
                color=colours[group],
                alpha=0.15,
                linewidth=0,
            )
    rounds_axis(axes)
    axes.set_title("Mean α over the rounds", fontsize=9.5)


def mixing_remark(results: RoundsResults) -> str:
    """How far the mixing vectors have moved from one."""
    parts = []
    for each in mixing_contestants(results):
        rows = results.mixing[results.mixing["contestant"] == each.name]["value"].dropna()
        if len(rows):
            parts.append(
                f"of {each.title} {rows.mean():.3f}, with {100 * (rows < 0.5).mean():.1f} % of the "
                "entries below one half"
            )
    if not parts:
        return ""
    return f"After the last round the mean entry is, over all users and seeds, {'; '.join(parts)}."
