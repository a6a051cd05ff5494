"""Numbers of a rounds study seed by seed, and over its rounds: what pictures and words rest on."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd

from fedjax_kd.report.rounds_names import counted_scope
from fedjax_kd.report.rounds_results import Contestant, RoundsResults
from fedjax_kd.report.tables import Frame
from fedjax_kd.statistics import mean_interval

Verdict = Literal["better", "worse", "same"]

TARGET_SHARE = 0.9  # of the proposed method's best accuracy, to which costs are compared
SHARES_OF_TOP = (0.8, 0.9)  # of the best accuracy of all, where no method is proposed


def rows_of(results: RoundsResults, contestant: str, view: str, metric: str) -> Frame:
    """The finite rows of one curve: `seed`, `round` and `value`."""
    table = results.curves
    chosen = table[
        (table["contestant"] == contestant) & (table["view"] == view) & (table["metric"] == metric)
    ]
    return chosen[np.isfinite(chosen["value"].to_numpy(dtype=float))]


def shown_contestants(results: RoundsResults) -> list[Contestant]:
    """The contestants that have a curve, in the manifest's order."""
    named = set(results.curves["contestant"].unique()) if len(results.curves) else set()
    return [
        each
        for each in results.contestants
        if each.name in named
        and any(
            len(rows_of(results, each.name, view, f"accuracy_{scope}"))
            for view in each.views
            for scope in ("personal", "common")
        )
    ]


def absent_contestants(results: RoundsResults) -> list[str]:
    """One sentence for each contestant that diverged or has no numbers."""
    shown = {each.title for each in shown_contestants(results)}
    sentences = [
        f"{title} diverged{': ' + reason.rstrip('.') if reason else ''}."
        for title, reason in results.diverged
    ]
    told = {title for title, _ in results.diverged}
    sentences += [
        f"{each.title} has no accuracies in the results."
        for each in results.contestants
        if each.title not in shown and each.title not in told
    ]
    return sentences


def curve(results: RoundsResults, contestant: str, view: str, metric: str) -> Frame:
    """Mean, lowest and highest over the seeds, by round."""
    values = rows_of(results, contestant, view, metric).groupby("round")["value"]
    return values.agg(mean="mean", low="min", high="max").sort_index()


def seed_values(
    results: RoundsResults, contestant: str, view: str, metric: str, when: str
) -> Frame:
    """One number per seed: at the round where it is highest (`best`), or the last one (`last`)."""
    rows = rows_of(results, contestant, view, metric)
    if when == "best":
        return rows.groupby("seed")["value"].max()
    return rows.sort_values("round").groupby("seed")["value"].last()


def difference(
    results: RoundsResults, other: Contestant, metric: str, when: str
) -> tuple[float, float, float]:
    """The main view of what the others are held against minus another's, paired over the seeds.

    Args:
        results: the study.
        other: the contestant compared with.
        metric: e.g. `accuracy_common`.
        when: `best` or `last`.

    Returns:
        Mean of the seeds' differences and the ends of its 95 % t interval; NaN where unknown.
    """
    proposed = results.proposed
    if proposed is None or not proposed.views or not other.views:
        return np.nan, np.nan, np.nan
    mine = seed_values(results, proposed.name, proposed.views[0], metric, when)
    theirs = seed_values(results, other.name, other.views[0], metric, when)
    return mean_interval((mine - theirs).dropna())


def gap_of(
    results: RoundsResults, other: Contestant, metric: str, when: str
) -> tuple[float, float, float]:
    """As `difference`; where no method is proposed, by how much the other is above the reference.

    So a positive mean always speaks for a method and not for a reference.
    """
    mean, low, high = difference(results, other, metric, when)
    return (mean, low, high) if results.reference is None else (-mean, -high, -low)


def verdict_of(interval: tuple[float, float, float]) -> Verdict:
    """Which way a difference points; `same` where its interval includes 0.

    With one seed there is no interval, and the sign of the difference decides.
    """
    mean, low, high = interval
    if (np.isfinite(low) and low <= 0 <= high) or mean == 0:
        return "same"
    return "better" if mean > 0 else "worse"


def summary_value(results: RoundsResults, contestant: str, view: str, column: str) -> float:
    """One number of the summary; NaN where it has none."""
    if column not in results.summary.columns or (contestant, view) not in results.summary.index:
        return np.nan
    return float(results.summary[column].loc[(contestant, view)])


def target_shares(results: RoundsResults) -> tuple[float, ...]:
    """To which shares of the best accuracy the study says what it took to get."""
    return (TARGET_SHARE,) if results.reference is None else SHARES_OF_TOP


def cost_to_target(
    results: RoundsResults, contestant: Contestant, cost: str, share: float = TARGET_SHARE
) -> float:
    """Mean over the seeds of a cost up to a share of the best accuracy; NaN if never."""
    view = contestant.views[0] if contestant.views else ""
    return summary_value(results, contestant.name, view, f"{cost}_to_{round(100 * share)}")


def target_accuracy(results: RoundsResults, share: float = TARGET_SHARE) -> float:
    """A share of the best counted accuracy, mean over the seeds; NaN if unknown.

    The best is the proposed method's; where none is proposed, it is that of all contestants, seed
    by seed.
    """
    alone = results.proposed if results.reference is None else None
    setting = results.contestants if alone is None else (alone,)
    metric = f"accuracy_{counted_scope(results)}"
    best = [
        seed_values(results, each.name, each.views[0], metric, "best")
        for each in setting
        if each.views
    ]
    best = [values for values in best if len(values)]
    return share * float(pd.concat(best, axis=1).max(axis=1).mean()) if best else np.nan


def cost_and_accuracy(results: RoundsResults, contestant: Contestant, cost: str) -> Frame:
    """Means over the seeds at each evaluated round: `cost` so far and `accuracy` of the main view.

    Empty where the contestant has no costs or no curve.
    """
    metric = f"accuracy_{counted_scope(results)}"
    view = contestant.views[0] if contestant.views else ""
    accuracy = rows_of(results, contestant.name, view, metric).groupby("round")["value"].mean()
    costs = results.costs[results.costs["contestant"] == contestant.name]
    spent = costs.groupby("round")[cost].mean()
    joined = pd.DataFrame({"cost": spent, "accuracy": accuracy}).dropna()
    return joined.sort_index()
