"""Users by architecture and strength, and how each group of them fares."""

from __future__ import annotations

import numpy as np
import pandas as pd

from fedjax_kd.report.rounds_names import GROUPS
from fedjax_kd.report.rounds_results import RoundsResults
from fedjax_kd.report.tables import Frame


def model_order(results: RoundsResults) -> list[str]:
    """The models of a study from light to heavy by training work."""
    models = [each for each in results.manifest.get("models") or [] if "label" in each]
    models = sorted(models, key=lambda each: float(each.get("training_flops") or 0))
    return list(dict.fromkeys(str(each["label"]) for each in models))


def user_groups(results: RoundsResults) -> dict[int, str]:
    """What group each user belongs to: its architecture, and whether it is strong if some are.

    Taken from the manifest, or from the clients' table where the manifest names no users.
    """
    listed = results.manifest.get("users") or []
    people = [(each["user"], each.get("model", ""), each.get("strong")) for each in listed]
    if not people:
        known = results.clients[["user", "model", "strong"]].drop_duplicates("user")
        people = list(known.itertuples(index=False, name=None))
    mixed = len({bool(strong) for _, _, strong in people}) > 1
    return {
        int(user): f"{model}, {GROUPS[bool(strong)]}" if mixed else str(model)
        for user, model, strong in people
    }


def group_order(results: RoundsResults) -> list[str]:
    """The groups that have users, from the lightest architecture to the heaviest."""
    models = model_order(results)

    def place(group: str) -> tuple[int, str]:
        model = group.rsplit(", ", 1)[0] if group.endswith(tuple(GROUPS.values())) else group
        return (models.index(model) if model in models else len(models)), group

    return sorted(set(user_groups(results).values()), key=place)


def grouped_clients(results: RoundsResults) -> Frame:
    """The clients' table with a column `group`; users that nobody names are left out."""
    groups = user_groups(results)
    table = results.clients
    if table.empty:
        return table.assign(group=[])
    return table.assign(group=[groups.get(int(user)) for user in table["user"]]).dropna(
        subset=["group"]
    )


def group_means(table: Frame, contestant: str, view: str, column: str) -> Frame:
    """Means over the users of each group, one column per group, one row per seed."""
    rows = table[(table["contestant"] == contestant) & (table["view"] == view)]
    if column not in rows.columns or rows.empty:
        return pd.DataFrame()
    finite = rows[np.isfinite(rows[column].to_numpy(dtype=float))]
    return finite.groupby(["seed", "group"])[column].mean().unstack("group")
