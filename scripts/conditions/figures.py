"""What one condition came to: accuracies of every contestant and view, seed by seed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from fedjax_kd.report.rounds_results import curves_of
from fedjax_kd.statistics import mean_interval

SCOPES = ("personal", "common")
MOMENTS = ("best", "last")
TOTALS = ("delay_s", "energy_j", "bits", "flops")
TO_THE_BEST = tuple(  # of studies that propose no method
    f"{cost}_to_{share}" for share in (80, 90) for cost in ("rounds", "delay_s", "energy_j", "bits")
)


class Row(NamedTuple):
    """One view of one contestant.

    Attributes:
        contestant: name.
        title: how it is shown.
        view: which of its models.
        main: whether this is the view that the contestant stands by.
        accuracy: (scope, moment) to values [S], means over the clients.
        totals: metric to its mean over the seeds; what it took to come near the best is NaN where
            some seed never got there.
    """

    contestant: str
    title: str
    view: str
    main: bool
    accuracy: dict[tuple[str, str], np.ndarray]
    totals: dict[str, float]


class Condition(NamedTuple):
    """One run.

    Attributes:
        name: of its folder.
        title: how it is shown.
        proposed: name of the contestant that the others are held against, from the first condition:
            the proposed method, or the reference where none is proposed.
        rows: every view of every contestant that has figures, in the order of the settings.
        diverged: contestants without figures, with the reason.
        elapsed_s: how long it took.
        reference: whether `proposed` is a reference, which the others have to beat.
    """

    name: str
    title: str
    proposed: str
    rows: list[Row]
    diverged: list[tuple[str, str]]
    elapsed_s: float
    reference: bool = False

    @property
    def lead(self) -> Row | None:
        """The main view that others are held against; None where it has no figures."""
        own = [row for row in self.rows if row.contestant == self.proposed and row.main]
        return own[0] if own else None


def read_condition(folder: Path, name: str, title: str, proposed: str = "") -> Condition:
    """Reads the folder of one finished run.

    Args:
        folder: of the run.
        name: of the condition.
        title: how it is shown.
        proposed: name of the contestant that the others are held against; by default the
            reference, or the first contestant where there is none.
    """
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    metrics: Any = pd.read_parquet(folder / "metrics.parquet")
    views = {each["name"]: each["views"][0] for each in manifest["contestants"]}
    curves = curves_of(metrics, views)
    summary: Any = pd.read_csv(folder / "summary.csv")
    reference = [e["name"] for e in manifest["contestants"] if e.get("role") == "reference"]
    rows = []
    for contestant in manifest["contestants"]:
        own = curves[curves["contestant"] == contestant["name"]]
        if not len(own):
            continue
        for index, view in enumerate(contestant["views"]):
            seen = own[own["view"] == view]
            figures = summary[
                (summary["contestant"] == contestant["name"]) & (summary["view"] == view)
            ].iloc[0]
            rows.append(
                Row(
                    contestant["name"],
                    contestant["title"],
                    view,
                    index == 0,
                    {(s, m): _by_seed(seen, s, m) for s in SCOPES for m in MOMENTS},
                    {
                        metric: float(figures[metric])
                        for metric in (*TOTALS, *(TO_THE_BEST if reference else ()))
                    },
                )
            )
    lost = [(each["name"], each["reason"]) for each in manifest.get("diverged") or []]
    proposed = proposed or (*reference, manifest["contestants"][0]["name"])[0]
    took_s = float(sum(manifest["elapsed_s"].values()))
    return Condition(name, title, proposed, rows, lost, took_s, bool(reference))


def _by_seed(curves: Any, scope: str, moment: str) -> np.ndarray:
    wanted = curves[curves["metric"] == f"accuracy_{scope}"]
    table = wanted.pivot(index="round", columns="seed", values="value").sort_index()
    return (table.max(axis=0) if moment == "best" else table.iloc[-1]).to_numpy()


def interval(values: np.ndarray) -> tuple[float, float]:
    """Mean over the seeds and half of its 95 % t interval."""
    mean, _, high = mean_interval(values)
    return mean, high - mean


def ahead(proposed: Row | None, other: Row, scope: str, moment: str) -> tuple[float, float]:
    """By how much the proposed method is ahead, paired by seed: mean and half interval."""
    if proposed is None:
        return np.nan, np.nan
    return interval(proposed.accuracy[scope, moment] - other.accuracy[scope, moment])
