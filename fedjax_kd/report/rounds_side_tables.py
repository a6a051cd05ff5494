"""The smaller tables of a rounds study: models, groups of users, single users, the ledger."""

from __future__ import annotations

import numpy as np

from fedjax_kd.report.errors import NothingToShow
from fedjax_kd.report.numbers import count_text, scale_for
from fedjax_kd.report.rounds_costs import SERVER_USER, ledger_rows, phases_in_order
from fedjax_kd.report.rounds_names import (
    GROUPS,
    cause_name,
    phase_name,
    row_name,
    scopes_in_order,
    view_name,
)
from fedjax_kd.report.rounds_people import (
    group_means,
    group_order,
    grouped_clients,
    user_groups,
)
from fedjax_kd.report.rounds_results import RoundsResults
from fedjax_kd.report.rounds_values import shown_contestants
from fedjax_kd.report.side_tables import Entry, SideTable, per_cent

_MOST_ROWS = 300


def _words(text: str) -> Entry:
    return Entry(text, text, False)


def models_table(results: RoundsResults) -> SideTable:
    """Size and work of each model, and how many users have it."""
    models = results.manifest.get("models") or []
    if not models:
        raise NothingToShow("The results do not describe the models.")
    users = results.manifest.get("users") or []
    rows = []
    for model in models:
        label = str(model.get("label", ""))
        row = [_words(label), _words(str(model.get("role", "")).replace("_", " "))]
        for key in ("parameters", "training_flops"):
            value = float(model.get(key) or np.nan)
            row.append(Entry(count_text(value) if np.isfinite(value) else "–", value))
        bits = float(model.get("bits") or np.nan) / 1e6
        row.append(Entry(f"{bits:,.2f}" if np.isfinite(bits) else "–", bits))
        role = str(model.get("role", "user"))
        owners = sum(str(user.get("model")) == label for user in users)
        owners = len(users) if role == "auxiliary" else owners  # which everybody trains
        # A model that travels or is shared is nobody's own, even where it has an owner's label.
        counted = role in ("user", "target", "auxiliary")
        row.append(Entry(str(owners) if counted else "–", owners if counted else np.nan))
        rows.append(row)
    head = ["Model", "Role", "Parameters", "Training FLOPs / example", "Size [Mbit]", "Users"]
    return SideTable("Models", head, rows, folded=False)


def groups_table(results: RoundsResults) -> SideTable:
    """Accuracy of each contestant's views by architecture: means over users, then over seeds."""
    table = grouped_clients(results)
    groups = group_order(results)
    if table.empty or not groups:
        raise NothingToShow("The results hold no accuracies of the single users.")
    counts = {group: list(user_groups(results).values()).count(group) for group in groups}
    rows = []
    for group in groups:
        for each in shown_contestants(results):
            for view in each.views:
                row = [_words(group), Entry(str(counts[group]), counts[group])]
                row.append(_words(row_name(each, view)))
                known = False
                for scope in scopes_in_order(results):
                    for when in ("at_best", "last"):
                        column = f"accuracy_{scope}_{when}"
                        means = group_means(table, each.name, view, column)
                        found = group in means.columns
                        known = known or found
                        row.append(per_cent(means[group]) if found else Entry("–", np.nan))
                rows += [row] if known else []
    head = ["Users with", "Users", "Contestant"]
    head += [
        f"{scope.capitalize()}, {when} [%]"
        for scope in scopes_in_order(results)
        for when in ("best", "last")
    ]
    return SideTable("Accuracy by architecture", head, rows)


def users_table(results: RoundsResults) -> SideTable:
    """Accuracies user by user of what the others are held against, for the first seed."""
    proposed = results.proposed
    table = grouped_clients(results)
    mine = table[table["contestant"] == (proposed.name if proposed else "")]
    if proposed is None or mine.empty:
        lead = "the proposed method" if results.reference is None else "the reference"
        raise NothingToShow(f"The results hold no accuracies of {lead}'s users.")
    seed = int(mine["seed"].min())
    mine = mine[mine["seed"] == seed]
    head = ["User", "Users with"]
    columns = [
        (view, f"accuracy_{scope}_last")
        for view in proposed.views
        for scope in scopes_in_order(results)
        if f"accuracy_{scope}_last" in mine.columns
    ]
    for view, column in columns:
        scope = column.split("_")[1]
        many = len(proposed.views) > 1
        head.append(
            f"{view_name(view).capitalize()}: {scope} [%]" if many else f"{scope.capitalize()} [%]"
        )
    rows = []
    for user, group in sorted(mine.groupby("user"), key=lambda each: int(each[0])):  # pyright: ignore
        row = [Entry(str(user), float(user)), _words(str(group["group"].iloc[0]))]  # pyright: ignore
        for view, column in columns:
            values = group.loc[group["view"] == view, column]
            row.append(per_cent(values))
        rows.append(row)
    cut = f", first {_MOST_ROWS} users" if len(rows) > _MOST_ROWS else ""
    title = f"{proposed.title}, user by user after the last round (seed {seed}{cut})"
    return SideTable(title, head, rows[:_MOST_ROWS])


def ledger_table(results: RoundsResults) -> SideTable:
    """Every phase and cause of every contestant: per client (strong and weak apart), and together.

    Raises:
        NothingToShow: there is no ledger.
    """
    ledger = ledger_rows(results)
    strong = {
        int(user["user"]): bool(user.get("strong")) for user in results.manifest.get("users") or []
    }
    mixed = len(set(strong.values())) > 1
    kinds = ["weak", "strong"] if mixed else ["client"]
    who = ledger["user"].map(
        lambda user: (
            SERVER_NAME
            if user == SERVER_USER
            else GROUPS[strong.get(int(user), False)]
            if mixed
            else "client"
        )
    )
    ledger = ledger.assign(who=who)
    members = ledger.drop_duplicates("user")["who"].value_counts()
    sums = ledger.groupby(["contestant", "phase", "cause", "who", "seed"])[list(_COLUMNS)].sum()
    means = sums.groupby(["contestant", "phase", "cause", "who"]).mean()
    scales = {}
    for column, kind in _COLUMNS.items():
        values = means[column].to_numpy(dtype=float)
        scales[column] = scale_for(kind, values[values > 0])  # pyright: ignore[reportArgumentType]
    rows = []
    for each in results.contestants:
        for phase in phases_in_order(results):
            for cause in ("downlink", "training", "server", "uplink"):
                for kind in (*kinds, SERVER_NAME):
                    key = (each.name, phase, cause, kind)
                    if key not in means.index or not (means.loc[key] > 0).any():
                        continue
                    amount = means.loc[key]
                    count = int(members.get(kind, 1)) if kind != SERVER_NAME else 1
                    row = [_words(each.title), _words(phase_name(phase))]
                    named = cause_name("training" if cause == "server" else cause, each.peer)
                    if kind == SERVER_NAME and cause == "downlink":
                        named = "sent to the users"
                    row += [_words(named), _words(kind if count == 1 else f"{kind} ({count})")]
                    for column in _COLUMNS:
                        value = float(amount[column]) / count
                        shown = f"{value / scales[column].divisor:,.3g}"
                        row.append(Entry(shown if value else "–", value))
                    rows.append(row)
    head = ["Contestant", "Phase", "Cause", "Who (how many)"]
    head += [f"{title} [{scales[column].unit}]" for column, title in _TITLES.items()]
    return SideTable("The ledger: sums over the rounds, means over the users of a kind", head, rows)


SERVER_NAME = "server"
_COLUMNS = {"flops": "flops", "bits": "bits", "delay_s": "seconds", "energy_j": "joules"}
_TITLES = {"flops": "Work", "bits": "Bits", "delay_s": "Busy time", "energy_j": "Energy"}
