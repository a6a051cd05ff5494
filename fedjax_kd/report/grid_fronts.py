"""Pareto fronts: settings of which none is both cheaper and more accurate than another."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fedjax_kd.report.errors import NothingToShow
from fedjax_kd.report.grid_names import COST_QUANTITIES, Quantity
from fedjax_kd.report.grid_values import Findings, is_main
from fedjax_kd.report.tables import Frame


class Front(NamedTuple):
    """Every main scope and point: columns `scope, point, accuracy, cost, front`."""

    cost: Quantity
    frame: Frame


def fronts(findings: Findings) -> list[Front]:
    """One front for each cost that is known and not always zero.

    The accuracy is that after the last round, since the cost is that of the whole run.

    Raises:
        NothingToShow: no cost is known.
    """
    summary, accuracy = findings.summary, f"{findings.counted}_last"
    rows = summary[[is_main(scope) for scope in summary["scope"]]]
    found = []
    for cost in COST_QUANTITIES:
        if cost.key not in rows.columns or accuracy not in rows.columns:
            continue
        frame = rows[["scope", "point", accuracy, cost.key]].dropna()
        frame = frame.rename(columns={accuracy: "accuracy", cost.key: "cost"})
        if len(frame) and (frame["cost"] > 0).any():
            best = undominated(frame["cost"].to_numpy(float), frame["accuracy"].to_numpy(float))
            found.append(Front(cost, frame.assign(front=best).sort_values(["cost", "point"])))
    if not found:
        raise NothingToShow("The results hold no accuracies with costs.")
    return found


def undominated(costs: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Which points no other beats: none costs at most as much and scores at least as well.

    Args:
        costs: [n], less is better.
        scores: [n], more is better.

    Returns:
        bool [n]; of points that are equal in both, all or none; False where a number is not finite.
    """
    known = np.isfinite(costs) & np.isfinite(scores)
    found = np.zeros(len(costs), bool)
    order = np.lexsort((-scores, costs))
    best, at = -np.inf, np.nan
    for place in order[known[order]]:
        if scores[place] > best:
            best, at = scores[place], costs[place]
            found[place] = True
        elif scores[place] == best and costs[place] == at:
            found[place] = True
    return found
