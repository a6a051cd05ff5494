"""The smaller tables of a report: students, causes, frontier points, one user's decision a row."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from fedjax_kd.report.errors import NothingToShow
from fedjax_kd.report.names import (
    CAUSES,
    PROPOSED,
    SOFT_LABELS,
    Kind,
    policy_name,
    policy_order,
    student_order,
)
from fedjax_kd.report.numbers import count_text, scale_for
from fedjax_kd.report.pictures.accuracy_table import distilled_kind
from fedjax_kd.report.pictures.costs import costs_by_cause
from fedjax_kd.report.results import Frame, Results
from fedjax_kd.statistics import mean_interval

_MOST_ROWS = 300


class Entry(NamedTuple):
    """What a cell says and by what it is sorted."""

    text: str
    sort: str | float
    number: bool = True


class SideTable(NamedTuple):
    """A table with a title; folded away where it only backs a picture."""

    title: str
    head: list[str]
    rows: list[list[Entry]]
    folded: bool = True


def students_table(results: Results) -> SideTable:
    """Size, work and mean accuracies of each student, with the gain by distillation."""
    profiles = {str(each["label"]): each for each in results.manifest.get("students") or []}
    table = results.accuracy_table
    table = table[table["stage"] == "profile"]
    kinds = [kind for kind in SOFT_LABELS if kind in set(table["soft_labels"])]
    kinds = kinds or ["none"]
    scopes = [
        (column, title)
        for column, title in (("accuracy_personal", "Personal"), ("accuracy_common", "Common"))
        if column in table.columns and table[column].notna().any()
    ]
    distilled = distilled_kind(dict.fromkeys(kinds))
    head = ["Student", "Parameters", "Training FLOPs / example", "Size [Mbit]"]
    shown = {"accuracy_personal": kinds, "accuracy_common": [distilled or "none"]}
    for column, title in scopes:
        head += [f"{title}, {SOFT_LABELS[kind]} [%]" for kind in shown[column]]
        head += [f"{title}, gain [points]"] if distilled and "none" in kinds else []
    rows = []
    for student in student_order(results):
        profile = profiles.get(student, {})
        row = [Entry(student, student, False)]
        for key, divisor in (("parameters", 1), ("training_flops", 1), ("bits", 1e6)):
            value = float(profile.get(key) or np.nan) / divisor
            text = "–" if not np.isfinite(value) else count_text(value)
            text = f"{value:,.2f}" if key == "bits" and np.isfinite(value) else text
            row.append(Entry(text, value))
        for column, _ in scopes:
            by_seed = {
                kind: table[(table["student"] == student) & (table["soft_labels"] == kind)]
                .groupby("seed")[column]
                .mean()
                for kind in kinds
            }
            row += [per_cent(by_seed[kind]) for kind in shown[column]]
            if distilled and "none" in kinds:
                row.append(per_cent(by_seed[distilled] - by_seed["none"], sign="+"))
        rows.append(row)
    if not rows:
        raise NothingToShow("The results name no students.")
    return SideTable("Students", head, rows, folded=False)


def causes_table(results: Results, column: str, title: str, kind: Kind) -> SideTable:
    """One ledger column by policy and cause, with totals."""
    table = costs_by_cause(results, column)
    totals = table.sum(axis=1)
    scale = scale_for(kind, totals)
    head = ["Policy", *(CAUSES.get(cause, cause) for cause in table.columns), "total"]
    rows = [
        [
            Entry(policy_name(str(policy)), policy_name(str(policy)), False),
            *(Entry(scale.text(value), value) for value in [*row, totals[policy]]),
        ]
        for policy, row in zip(table.index, table.to_numpy(), strict=True)
    ]
    return SideTable(f"{title} by cause [{scale.unit}]", head, rows)


def frontier_table(results: Results) -> SideTable:
    """The frontier's points: means over seeds with half intervals."""
    table = results.frontier
    if table.empty:
        raise NothingToShow("The study swept no delay weights.")
    delay = scale_for("seconds", table["delay_s"])
    order = policy_order(results)
    rows = []
    groups = sorted(
        table.groupby(["policy", "delay_weight"]),
        key=lambda each: (order.index(each[0][0]) if each[0][0] in order else 99, *each[0]),  # pyright: ignore
    )
    for key, group in groups:
        policy, weight = key  # pyright: ignore
        rows.append(
            [
                Entry(policy_name(policy), policy_name(policy), False),
                Entry(f"{weight:g}", weight),
                per_cent(group["accuracy"]),
                _interval(group["delay_s"] / delay.divisor, delay.decimals),
            ]
        )
    head = ["Policy", "Delay weight λ", "Mean accuracy [%]", f"Delay [{delay.unit}]"]
    return SideTable("The frontier's points", head, rows)


def users_table(results: Results) -> SideTable:
    """The proposed policy's decision, costs and accuracies user by user, for the first seed."""
    mine = results.decisions[results.decisions["policy"] == PROPOSED]
    if mine.empty:
        raise NothingToShow("The results hold no decisions of the proposed policy.")
    seed = int(mine["seed"].min())
    mine = mine[mine["seed"] == seed].sort_values("user")
    head, columns = [], []
    for name, title in (("user", "User"), ("samples", "Samples"), ("synchronised", "Synchronised")):
        if name in mine.columns:
            head.append(title)
            columns.append([Entry(f"{value:,.0f}", value) for value in mine[name]])
    for name, title in (("student", "Student"), ("place", "Place")):
        head.append(title)
        columns.append([Entry(str(value), str(value), False) for value in mine[name]])
    for name, title, kind in _USER_NUMBERS:
        if name in mine.columns:
            scale = scale_for(kind, mine[name])
            head.append(f"{title} [{scale.unit}]")
            columns.append([Entry(scale.text(value), value) for value in mine[name]])
    rows = [list(row) for row in zip(*columns, strict=True)][:_MOST_ROWS]
    cut = f", first {_MOST_ROWS} users" if len(mine) > _MOST_ROWS else ""
    return SideTable(f"{policy_name(PROPOSED)}, user by user (seed {seed}{cut})", head, rows)


_USER_NUMBERS: tuple[tuple[str, str, Kind], ...] = (
    ("accuracy_table", "Planned accuracy", "fraction"),
    ("accuracy_personal", "Personal accuracy", "fraction"),
    ("accuracy_common", "Common accuracy", "fraction"),
    ("delay_s", "Delay", "seconds"),
    ("energy_j", "Energy", "joules"),
)


def per_cent(values: Frame, sign: str = "") -> Entry:
    """Mean over seeds of fractions, in per cent, with half its 95 % interval."""
    return _interval(100 * values, 1, sign)


def _interval(values: Iterable[float], decimals: int, sign: str = "") -> Entry:
    mean, low, high = mean_interval(values)
    if not np.isfinite(mean):
        return Entry("–", np.nan)
    text = f"{mean:{sign},.{decimals}f}"
    if np.isfinite(low):
        text += f" ± {(high - low) / 2:,.{decimals}f}"
    return Entry(text.replace("-", "−"), mean)
