"""Scores of a comparison: seed by seed, over the seeds, the best settings, and Pareto fronts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd

from fedjax_kd.report.grid_courses import courses_of
from fedjax_kd.report.grid_names import POLICY, QUANTITIES, value_key
from fedjax_kd.report.grid_results import Comparison
from fedjax_kd.report.grid_scores import counted_accuracy, seed_scores
from fedjax_kd.report.grid_statistics import Estimate, estimates
from fedjax_kd.report.tables import Frame


class Best(NamedTuple):
    """The setting that is best for one scope."""

    scope: str
    point: int
    estimate: Estimate
    second: int | None  # the point that comes next; None if there is none
    lead: float  # by how much its interquartile mean is above the second's; NaN without one
    settings: int  # among how many it was chosen
    passed_over: int  # settings that were not considered, since some of their seeds have no result


@dataclass(frozen=True)
class Findings:
    """A comparison with what was computed from it.

    Attributes:
        comparison: what was read.
        counted: `personal` or `common`, the accuracy by which settings are chosen.
        scores: one row per scope, point and seed, one column per quantity.
        summary: one row per scope and point: `seeds`, `planned`, and `q`, `q_low`, `q_high` of
            every quantity q that is there.
        best: of each main scope, in the order of the scopes.
    """

    comparison: Comparison
    counted: str
    scores: Frame
    summary: Frame
    best: tuple[Best, ...]

    @property
    def ranked_by(self) -> str:
        """The quantity by which settings are chosen."""
        return f"{self.counted}_best"

    @cached_property
    def scopes(self) -> list[str]:
        """All scopes that have a score, as they come in the tables."""
        return list(dict.fromkeys(self.summary["scope"]))

    @cached_property
    def main_scopes(self) -> list[str]:
        """Contestants by their main view, and policies."""
        return [each for each in self.scopes if is_main(each)]

    @cached_property
    def only_policies(self) -> bool:
        """Whether there is nothing that has rounds."""
        return all(each.startswith(POLICY) for each in self.main_scopes)

    def axes_of(self, scope: str) -> list[str]:
        """The axes along which a scope has more than one value."""
        points = self.comparison.points.loc[sorted(self.points_of(scope))]
        return [a for a in self.comparison.axes if len({value_key(v) for v in points[a]}) > 1]

    @cached_property
    def varied_axes(self) -> list[str]:
        """The axes along which some contestant has more than one value.

        An axis of the contestants themselves, for one, gives each of them one value only. All axes
        where there is none.
        """
        varied = {axis for scope in self.main_scopes for axis in self.axes_of(scope)}
        axes = list(self.comparison.axes)
        return [axis for axis in axes if axis in varied] or axes

    def naming_axes(self, scope: str) -> list[str]:
        """The axes by which a scope's settings are named: all, where it has one point only."""
        return self.axes_of(scope) or list(self.comparison.axes)

    def points_of(self, scope: str) -> list[int]:
        """The points at which a scope has a score."""
        return [int(p) for p in self.summary.loc[self.summary["scope"] == scope, "point"]]

    def seed_scores(self, scope: str, point: int, key: str) -> np.ndarray:
        """One number per seed, those that are not there left out."""
        rows = self.scores[(self.scores["scope"] == scope) & (self.scores["point"] == point)]
        values = rows[key].to_numpy(dtype=float)
        return values[np.isfinite(values)]

    @cached_property
    def ended_seeds(self) -> dict[int, int]:
        """By point, how many seeds came to an end: their rows are done or failed."""
        rows = self.comparison.rows
        ended = rows[rows["state"].isin(["done", "failed"])]
        counts = ended.groupby("point")["seed"].nunique()
        return {int(point): int(count) for point, count in counts.items()}

    @cached_property
    def courses(self) -> dict[tuple[str, int], Frame]:
        """Accuracy and costs over the rounds, by scope and point."""
        return courses_of(self.comparison, self.scores, self.counted)

    def best_of(self, scope: str) -> Best | None:
        """The best setting of a scope; None where no setting has a score."""
        return next((each for each in self.best if each.scope == scope), None)


def is_main(scope: str) -> bool:
    """Whether a scope is a policy or the main view of a contestant."""
    return scope.startswith(POLICY) or "/" not in scope


def findings_of(comparison: Comparison) -> Findings:
    """Computes scores, their interquartile means and the best settings."""
    counted = counted_accuracy(comparison)
    scores = seed_scores(comparison)
    summary = summarised(comparison, scores)
    best = [
        chosen
        for scope in dict.fromkeys(summary["scope"])
        if is_main(scope) and (chosen := best_setting(summary, scope, f"{counted}_best"))
    ]
    return Findings(comparison, counted, scores, summary, tuple(best))


def summarised(comparison: Comparison, scores: Frame) -> Frame:
    """Interquartile means over the seeds of each scope and point, in the scopes' order."""
    planned = comparison.rows.groupby("point")["seed"].nunique()
    order = {scope: place for place, scope in enumerate(_scope_order(comparison, scores))}
    groups = scores.groupby(["scope", "point"], sort=False)
    keys = sorted(groups.groups, key=lambda key: (order[key[0]], key[1]))  # pyright: ignore
    table: dict[str, list] = {
        "scope": [scope for scope, _ in keys],  # pyright: ignore
        "point": [int(point) for _, point in keys],  # pyright: ignore
    }
    counted = np.zeros(len(keys), int)
    for each in QUANTITIES:
        if not np.isfinite(scores[each.key].to_numpy(dtype=float)).any():
            continue
        values = {key: group.to_numpy(dtype=float) for key, group in groups[each.key]}
        found = estimates(values[key] for key in keys)  # pyright: ignore
        table[each.key] = [estimate.value for estimate in found]
        table[f"{each.key}_low"] = [estimate.low for estimate in found]
        table[f"{each.key}_high"] = [estimate.high for estimate in found]
        if each.key.endswith("_best"):
            counted = np.maximum(counted, [estimate.seeds for estimate in found])
    frame = pd.DataFrame(table)
    frame.insert(2, "seeds", counted)
    frame.insert(3, "planned", [int(planned.get(point, 0)) for point in table["point"]])
    return frame


def _scope_order(comparison: Comparison, scores: Frame) -> list[str]:
    """Contestants as the manifests list them, each with its views; then the others as they come."""
    found = list(dict.fromkeys(scores["scope"]))
    listed = list(comparison.titles)
    names = [each.split("/")[0] for each in found]
    return sorted(
        found,
        key=lambda scope: (
            scope.startswith(POLICY),
            listed.index(name) if (name := scope.split("/")[0]) in listed else len(listed),
            names.index(name),
            found.index(scope),
        ),
    )


def best_setting(summary: Frame, scope: str, key: str) -> Best | None:
    """The point with the highest interquartile mean, among those with the most seeds.

    A setting that lost a seed is passed over where others of the scope have them all: a mean over
    the seeds that survived would flatter it.

    Args:
        summary: as in `Findings`.
        scope: whose.
        key: the quantity, one of which more is better.
    """
    rows = summary[summary["scope"] == scope]
    if key not in rows.columns or rows[key].isna().all():
        return None
    known = rows[rows[key].notna()]
    whole = known[known["seeds"] == known["seeds"].max()]
    ranked = whole.sort_values([key, "point"], ascending=[False, True], kind="stable")
    first = ranked.iloc[0]
    second = ranked.iloc[1] if len(ranked) > 1 else None
    return Best(
        scope=scope,
        point=int(first["point"]),
        estimate=Estimate(
            float(first[key]),
            float(first[f"{key}_low"]),
            float(first[f"{key}_high"]),
            int(first["seeds"]),
        ),
        second=None if second is None else int(second["point"]),
        lead=np.nan if second is None else float(first[key] - second[key]),
        settings=len(ranked),
        passed_over=len(rows) - len(ranked),
    )
