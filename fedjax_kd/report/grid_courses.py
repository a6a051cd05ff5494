"""Accuracy over the rounds of a comparison, and curves of it against rounds and costs."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from fedjax_kd.report.grid_names import POLICY
from fedjax_kd.report.grid_results import Comparison
from fedjax_kd.report.grid_scores import KEYS, evaluated
from fedjax_kd.report.grid_statistics import seed_intervals
from fedjax_kd.report.names import Kind
from fedjax_kd.report.rounds_results import COSTS
from fedjax_kd.report.tables import Frame

_MOST = 120  # places of one curve


class Against(NamedTuple):
    """What a curve is drawn against."""

    key: str
    name: str  # on its button and in file names
    title: str
    kind: Kind


AGAINST = (
    Against("round", "rounds", "Rounds", "rounds"),
    Against("delay_s", "seconds", "Simulated time", "seconds"),
    Against("energy_j", "joules", "Energy", "joules"),
    Against("bits", "bits", "Traffic", "bits"),
)


def courses_of(comparison: Comparison, scores: Frame, counted: str) -> dict[tuple[str, int], Frame]:
    """Accuracy, and costs so far, of each seed at each evaluated round.

    Args:
        comparison: what was read.
        scores: by scope, point and seed; seeds without a counted accuracy are left out.
        counted: `personal` or `common`.

    Returns:
        By scope and point: columns `seed, round, accuracy` and the costs, NaN where they are not
        known, by seed and round. Policies have no rounds and are left out.
    """
    metrics = evaluated(comparison)
    metrics = metrics[~metrics["scope"].str.startswith(POLICY)]
    rows = metrics[metrics["metric"] == f"accuracy_{counted}"].dropna(subset=["value"])
    ended = scores.dropna(subset=[f"{counted}_best"])[KEYS]
    table = rows.rename(columns={"value": "accuracy"}).merge(ended, on=KEYS)
    table = table.assign(spender=table["scope"].str.split("/").str[0])
    costs = metrics[metrics["metric"].isin(COSTS)]
    keys = ["spender", "point", "seed", "round"]
    if len(costs) and len(table):
        costs = costs.rename(columns={"scope": "spender"})
        costs = costs.merge(table[keys].drop_duplicates(), on=keys)
        wide = costs.pivot_table(index=keys, columns="metric", values="value").reset_index()
        table = table.merge(wide, on=keys, how="left")
    columns = ["seed", "round", "accuracy", *COSTS]
    table = table.sort_values(["scope", "point", "seed", "round"])
    return {
        (str(scope), int(point)): group.reindex(columns=columns).reset_index(drop=True)  # pyright: ignore
        for (scope, point), group in table.groupby(["scope", "point"])  # pyright: ignore
    }


def curve_against(table: Frame, key: str) -> Frame:
    """The interquartile mean over the seeds, and its interval, along rounds or a cost.

    Against a cost every seed is a step function: the accuracy of its last evaluation that the
    budget allows, its final one beyond its end. The places are the seeds' mean costs, from where
    every seed has an accuracy on.

    Args:
        table: one of what `courses_of` returned.
        key: of `AGAINST`.

    Returns:
        Columns `x, value, low, high`; empty where that cost is not known or always zero.
    """
    empty = pd.DataFrame({name: [] for name in ("x", "value", "low", "high")})
    if key not in table.columns or table.empty:
        return empty
    table = table.dropna(subset=[key, "accuracy"])
    seeds = [group for _, group in table.groupby("seed")]
    if not seeds or not (table[key] > 0).any():
        return empty
    if key == "round":
        wide = table.pivot(index="round", columns="seed", values="accuracy").dropna()
        places, scores = wide.index.to_numpy(dtype=float), wide.to_numpy(dtype=float)
    else:
        places = table.groupby("round")[key].mean().to_numpy(dtype=float)
        places = places[places >= max(float(group[key].iloc[0]) for group in seeds)]
        if not places.size:
            places = np.array([max(float(group[key].iloc[0]) for group in seeds)])
        scores = np.stack([_stepped(group, key, places) for group in seeds], axis=1)
    kept = np.unique(np.linspace(0, len(places) - 1, min(_MOST, len(places))).round().astype(int))
    value, low, high = seed_intervals(scores[kept])
    return pd.DataFrame({"x": places[kept], "value": value, "low": low, "high": high})


def _stepped(group: Frame, key: str, places: np.ndarray) -> np.ndarray:
    """One seed's accuracy at the given costs."""
    at = np.searchsorted(group[key].to_numpy(dtype=float), places, side="right") - 1
    return group["accuracy"].to_numpy(dtype=float)[np.maximum(at, 0)]
