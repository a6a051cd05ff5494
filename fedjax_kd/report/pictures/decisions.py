"""Who trains which student, and where: a grid of users, and the shares of all policies."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from fedjax_kd.report.drawing import Layout, new_figure, plain, value_grid
from fedjax_kd.report.errors import NothingToShow
from fedjax_kd.report.names import PROPOSED, policy_name, policy_order, student_order
from fedjax_kd.report.palette import INK, student_colours
from fedjax_kd.report.pictures.policy_rows import name_rows
from fedjax_kd.report.results import Frame, Results

_MOST_SEEDS = 10
_TALL_FROM = 26  # users, from which the narrow grid runs downwards


def draw_decisions(results: Results, layout: Layout) -> Figure:
    """The proposed policy's choice for every user and seed, and the others' for the first seed."""
    table = results.decisions
    if table.empty:
        raise NothingToShow("The results hold no decisions.")
    students = student_order(results)
    users = sorted(table["user"].unique())
    tall = layout.narrow and len(users) >= _TALL_FROM
    blocks = _blocks(results, short=tall)
    rows = sum(len(lines) for _, lines in blocks)
    if tall:
        figure = new_figure(layout, 2.6 + min(0.17 * len(users), 11))
        shape, ratios = (1, len(blocks)), "width_ratios"
    else:
        figure = new_figure(layout, 1.3 + 0.3 * len(blocks) + 0.27 * rows)
        shape, ratios = (len(blocks), 1), "height_ratios"
    lengths = {ratios: [len(lines) for _, lines in blocks]}
    grid = figure.subplots(*shape, squeeze=False, gridspec_kw=lengths)
    for axes, (title, lines) in zip(grid.flat, blocks, strict=True):
        _draw_grid(axes, table, lines, users, students, tall, layout.narrow)
        axes.set_title(title)
    last = grid.flat[0] if tall else grid.flat[-1]
    (last.set_ylabel if tall else last.set_xlabel)("User")
    _add_legend(figure, students, layout, hatched=False)
    return figure


def _blocks(results: Results, short: bool) -> list[tuple[str, list[tuple[str, str, int]]]]:
    """Panels of lines (label, policy, seed): the proposed policy's seeds, then the others."""
    table = results.decisions
    policies = [p for p in policy_order(results) if p in set(table["policy"])]
    seeds = sorted(int(seed) for seed in table["seed"].unique())
    blocks = []
    if PROPOSED in policies:
        lines = [(f"seed {seed}", PROPOSED, seed) for seed in seeds[:_MOST_SEEDS]]
        blocks.append(("Proposed" if short else policy_name(PROPOSED), lines))
    others = [(plain(policy_name(p)), p, seeds[0]) for p in policies if p != PROPOSED]
    if others:
        blocks.append((f"{'Others' if short else 'Other policies'}, seed {seeds[0]}", others))
    return blocks


def _draw_grid(
    axes: Axes,
    table: Frame,
    lines: list[tuple[str, str, int]],
    users: list[int],
    students: list[str],
    tall: bool,
    narrow: bool,
) -> None:
    """Cells in the students' colours; a ring marks training at the server."""
    chosen = np.full((len(lines), len(users)), np.nan)
    server = np.zeros(chosen.shape, dtype=bool)
    for row, (_, policy, seed) in enumerate(lines):
        mine = table[(table["policy"] == policy) & (table["seed"] == seed)]
        at = [users.index(user) for user in mine["user"]]
        chosen[row, at] = [students.index(str(student)) for student in mine["student"]]
        server[row, at] = (mine["place"] == "server").to_numpy()
    colours = ListedColormap(list(student_colours(students).values()))
    axes.pcolormesh(
        np.ma.masked_invalid(chosen.T if tall else chosen),
        cmap=colours,
        vmin=-0.5,
        vmax=len(students) - 0.5,
        edgecolors="white",
        linewidth=1.5 if len(users) <= 60 else 0.4,
        rasterized=chosen.size > 2500,
    )
    across, down = np.nonzero(server) if tall else np.nonzero(server)[::-1]
    axes.scatter(
        across + 0.5,
        down + 0.5,
        s=30 if len(users) <= 30 else 9,
        c="white",
        edgecolors=INK,
        linewidths=1.0,
        zorder=3,
    )
    step = 1 if len(users) <= 30 else 5 if len(users) <= 120 else 20
    step = 2 if narrow and 12 < len(users) <= 30 and not tall else step
    ticks = range(0, len(users), step)
    labels = [str(users[i]) for i in ticks]
    names = [label for label, _, _ in lines]
    if tall:
        axes.set_yticks([i + 0.5 for i in ticks], labels)
        axes.set_xticks(np.arange(len(lines)) + 0.5, names, rotation=90)
        axes.invert_yaxis()
    else:
        axes.set_xticks([i + 0.5 for i in ticks], labels)
        axes.set_yticks(np.arange(len(lines)) + 0.5, names)
        axes.invert_yaxis()
    axes.tick_params(length=0)
    if len(users) > 12:
        axes.tick_params(axis="y" if tall else "x", labelsize=7.5)
    axes.spines[:].set_visible(False)


def draw_shares(results: Results, layout: Layout) -> Figure:
    """Per policy, how many users (over all seeds) take each student at each place."""
    table = results.decisions
    if table.empty:
        raise NothingToShow("The results hold no decisions.")
    students = student_order(results)
    colours = student_colours(students)
    policies = [p for p in policy_order(results) if p in set(table["policy"])]
    figure = new_figure(layout, (1.5 if layout.narrow else 1.1) + 0.29 * len(policies))
    axes = figure.subplots()
    counts = table.groupby(["policy", "student", "place"]).size()
    totals = table.groupby("policy").size()
    left = np.zeros(len(policies))
    for place in ("device", "server"):
        for student in students:
            share = np.array(
                [100 * counts.get((p, student, place), 0) / totals[p] for p in policies]
            )
            axes.barh(
                range(len(policies)),
                share,
                left=left,
                height=0.72,
                color=colours[student],
                edgecolor="white",
                linewidth=0.6,
                hatch="////" if place == "server" else None,
            )
            left = left + share
    name_rows(axes, policies)
    axes.set_xlim(0, 100)
    axes.set_xlabel("Share of users, all seeds [%]")
    value_grid(axes)
    _add_legend(figure, students, layout, hatched=True)
    return figure


def _add_legend(figure: Figure, students: list[str], layout: Layout, hatched: bool) -> None:
    colours = student_colours(students)
    handles: list[Patch | Line2D] = [
        Patch(color=colours[name], label=plain(name)) for name in students
    ]
    if hatched:
        handles.append(Patch(facecolor="#98a2b3", label="on the device"))
        handles.append(
            Patch(facecolor="#98a2b3", edgecolor="white", hatch="////", label="at the server")
        )
    else:
        ring = Line2D([], [], linestyle="none", marker="o", color=INK)
        ring.set(markerfacecolor="white", markersize=6, label="trained at the server")
        handles.append(ring)
    figure.legend(
        handles=handles,
        loc="outside lower left" if layout.narrow else "outside upper left",
        ncols=2 if layout.narrow else min(len(handles), 8),
        handlelength=1.4,
        columnspacing=1.4,
    )
