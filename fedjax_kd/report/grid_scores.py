"""Scores of a comparison seed by seed: of contestants from their rounds, of policies as given."""

from __future__ import annotations

import pandas as pd

from fedjax_kd.report.grid_names import POLICY, QUANTITIES
from fedjax_kd.report.grid_results import Comparison
from fedjax_kd.report.rounds_results import COSTS
from fedjax_kd.report.tables import Frame, setting_at

KEYS = ["scope", "point", "seed"]
_COMMON = ("on_device_kd", "dfml")  # methods that are about the common test set


def counted_accuracy(comparison: Comparison) -> str:
    """The accuracy that the methods are about; the personal one where they do not agree."""
    found = set()
    for source in comparison.sources:
        for method in source.methods:
            common = method in _COMMON
            if method == "dt_kd":
                common = setting_at(source.settings, "objective.accuracy") == "common"
            found.add("common" if common else "personal")
    return "common" if found == {"common"} else "personal"


def seed_scores(comparison: Comparison) -> Frame:
    """One row per scope, point and seed with the quantities that are there, others NaN.

    A contestant whose accuracies end before the last round of its other seeds, or end in NaN,
    counts for that seed as if it had no accuracy at all: its earlier ones would flatter it.
    """
    metrics = evaluated(comparison)
    policies = metrics["scope"].str.startswith(POLICY)
    tables = [_policy_scores(metrics[policies]), _rounds_scores(metrics[~policies])]
    tables = [table for table in tables if len(table)]
    columns = [each.key for each in QUANTITIES]
    if not tables:
        return pd.DataFrame({name: [] for name in [*KEYS, *columns]})
    return pd.concat(tables, ignore_index=True).reindex(columns=[*KEYS, *columns])


def evaluated(comparison: Comparison) -> Frame:
    """The metrics of what is compared: of DT-KD only the policies, not teacher and traces."""
    metrics = comparison.metrics.assign(scope=comparison.metrics["scope"].astype(str))
    with_policies = set(metrics.loc[metrics["scope"].str.startswith(POLICY), "point"])
    kept = ~metrics["point"].isin(with_policies) | metrics["scope"].str.startswith(POLICY)
    return metrics[kept]


def _policy_scores(metrics: Frame) -> Frame:
    names = {
        "accuracy_personal_mean": ("personal_best", "personal_last"),
        "accuracy_common_mean": ("common_best", "common_last"),
        "accuracy_personal_worst_decile": ("worst_decile_last",),
        **{key: (key,) for key in ("delay_s", "energy_j", "bits", "utility")},
    }
    table = metrics.pivot_table(index=KEYS, columns="metric", values="value", sort=False)
    columns = {new: table[old] for old, all_new in names.items() if old in table for new in all_new}
    return pd.DataFrame(columns, index=table.index).reset_index()


def _rounds_scores(metrics: Frame) -> Frame:
    accuracies = metrics[metrics["metric"].str.startswith("accuracy_")].sort_values("round")
    final = accuracies.groupby(["scope", "point"])["round"].transform("max")
    last = accuracies[accuracies["round"] == final].pivot_table(
        index=KEYS, columns="metric", values="value", sort=False
    )
    best = accuracies.pivot_table(index=KEYS, columns="metric", values="value", aggfunc="max")
    found = {}
    for name in ("personal", "common"):
        if f"accuracy_{name}" in last:
            ended = last[f"accuracy_{name}"]
            found[f"{name}_last"] = ended
            found[f"{name}_best"] = (
                best[f"accuracy_{name}"].reindex(ended.index).where(ended.notna())
            )
    if "accuracy_personal_worst_decile" in last:
        found["worst_decile_last"] = last["accuracy_personal_worst_decile"]
    order = accuracies[KEYS].drop_duplicates()
    table = order.merge(pd.DataFrame(found).reset_index(), on=KEYS, how="left") if found else order
    spent = total_costs(metrics)
    contestant = table["scope"].str.split("/").str[0]
    table = table.assign(scope=contestant, full=table["scope"]).merge(spent, on=KEYS, how="left")
    return table.assign(scope=table["full"]).drop(columns="full")


def total_costs(metrics: Frame) -> Frame:
    """What the whole run of each contestant, point and seed cost."""
    costs = metrics[metrics["metric"].isin(COSTS)]
    if costs.empty:
        return pd.DataFrame({name: [] for name in KEYS}).astype({"scope": "str"})
    return costs.pivot_table(
        index=KEYS, columns="metric", values="value", aggfunc="max"
    ).reset_index()
