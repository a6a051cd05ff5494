"""What it cost to reach an accuracy: at the best setting of each scope, and at its cheapest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fedjax_kd.report.grid_courses import AGAINST
from fedjax_kd.report.grid_statistics import Estimate, estimates, interquartile_mean
from fedjax_kd.report.grid_values import Findings
from fedjax_kd.report.tables import Frame

SHARES = (0.8, 0.9)  # of the best of all


class Target(NamedTuple):
    """An accuracy to be reached."""

    accuracy: float
    name: str


class Reached(NamedTuple):
    """What it took a scope, at one setting, to reach a target.

    The costs are interquartile means over the seeds; there are none unless every seed got there.
    """

    scope: str
    point: int
    target: Target
    seeds: int  # whose rows came to an end, failed ones included
    there: int  # seeds that got there
    costs: dict[str, Estimate]  # by the key of what it is against


def targets_of(findings: Findings, given: Sequence[float] = ()) -> list[Target]:
    """80 and 90 % of the highest interquartile mean, and the accuracies that were given.

    That mean is of a setting that has all planned seeds, or the most of them where none has.
    """
    summary, key = findings.summary, findings.ranked_by
    known = summary[summary[key].notna()] if key in summary.columns else summary.iloc[:0]
    whole = known[known["seeds"] == known["planned"]]
    if whole.empty:
        whole = known[known["seeds"] == known["seeds"].max()]
    tops = [float(whole[key].max())] if len(whole) else []
    shares = [
        Target(share * top, f"{100 * share:.0f} % of the best: {100 * share * top:.1f} %")
        for top in tops
        for share in SHARES
    ]
    return [*shares, *(Target(value, f"{100 * value:g} %") for value in given)]


def firsts_of(table: Frame, accuracy: float) -> Frame:
    """Each seed's first evaluated round with at least that accuracy, for seeds that have one."""
    return table[table["accuracy"] >= accuracy].drop_duplicates("seed")


def reached(findings: Findings, scope: str, point: int, target: Target) -> Reached | None:
    """What it took one scope at one setting; None where it has no rounds."""
    table = findings.courses.get((scope, point))
    if table is None:
        return None
    firsts = firsts_of(table, target.accuracy)
    seeds, there = findings.ended_seeds.get(point, 0), len(firsts)
    keys = [each.key for each in AGAINST if np.isfinite(table[each.key]).all()]
    found = estimates([firsts[key].to_numpy(dtype=float) for key in keys]) if there == seeds else []
    return Reached(scope, point, target, seeds, there, dict(zip(keys, found, strict=False)))


def cheapest(findings: Findings, scope: str, target: Target) -> int | None:
    """The setting that took the fewest rounds to the target, among those with the most seeds.

    A seed that failed counts as one that did not get there. None where no setting reached the
    target with every seed.
    """
    points = [point for point in findings.points_of(scope) if (scope, point) in findings.courses]
    seeds = {point: findings.ended_seeds.get(point, 0) for point in points}
    most = max(seeds.values(), default=0)
    rounds = {}
    for point in points:
        firsts = firsts_of(findings.courses[scope, point], target.accuracy)
        if seeds[point] == most == len(firsts):
            rounds[point] = float(interquartile_mean(firsts["round"].to_numpy(dtype=float)))
    return min(rounds, key=lambda point: (rounds[point], point)) if rounds else None
