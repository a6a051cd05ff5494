"""The sections of a comparison's page: what each says, shows and lists, or why it cannot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from fedjax_kd.report.errors import NothingToShow
from fedjax_kd.report.grid_clients import clients_table
from fedjax_kd.report.grid_cost_tables import front_table, target_table
from fedjax_kd.report.grid_remarks import best_remarks, failures_remarks
from fedjax_kd.report.grid_row_tables import (
    axes_table,
    differences_table,
    failures_table,
    sources_table,
)
from fedjax_kd.report.grid_table_files import GridTable
from fedjax_kd.report.grid_tables import best_table, headline_table
from fedjax_kd.report.grid_targets import targets_of
from fedjax_kd.report.grid_values import Findings


class GridPlan(NamedTuple):
    """A section before it is filled; `switched` pictures are alternatives of each other."""

    name: str
    short: str
    title: str
    intro: str
    pictures: tuple[str, ...] = ()
    tables: tuple[Callable[[], GridTable | None], ...] = ()
    remarks: tuple[str, ...] = ()
    switched: bool = False


class GridSection(NamedTuple):
    """A section as the template takes it: names of the pictures that there are, and the tables."""

    plan: GridPlan
    pictures: list[str]
    tables: list[GridTable]
    missing: list[str]


def grid_plans(findings: Findings, given: Sequence[float], names: Sequence[str]) -> list[GridPlan]:
    """The sections of a page.

    Args:
        findings: of the comparison.
        given: accuracies to be reached, beside those that follow from the best of all.
        names: of all pictures.
    """
    comparison = findings.comparison
    plans = [
        GridPlan(
            "swept",
            "Swept",
            "What was swept" if comparison.axes else "What was run",
            "A point is one combination of settings, a row is a point with one seed.",
            tables=(
                *((lambda: sources_table(comparison),) if len(comparison.sources) > 1 else ()),
                *((lambda: axes_table(comparison),) if comparison.axes else ()),
                *((lambda: differences_table(comparison),) if len(comparison.sources) > 1 else ()),
            ),
        )
    ]
    if comparison.count("failed") or comparison.diverged:
        plans.append(
            GridPlan(
                "failures",
                "Failed",
                "What failed and why",
                "A row that fails does not take the others with it, and counts nowhere below.",
                tables=(lambda: failures_table(comparison),) if comparison.count("failed") else (),
                remarks=failures_remarks(comparison),
            )
        )
    who = "policy" if findings.only_policies else "contestant"
    return [
        *plans,
        GridPlan(
            "best",
            "Best settings",
            f"The best setting of each {who}",
            f"Of all points, the one with the highest {findings.counted} accuracy.",
            ("best",),
            (lambda: best_table(findings),),
            best_remarks(findings),
        ),
        *_curves(findings, names),
        GridPlan(
            "effects",
            "Effects",
            "What each setting does",
            "One picture for each swept setting, one line for each " + who + ".",
            tuple(name for name in names if name.startswith("effect-")),
        ),
        GridPlan(
            "fronts",
            "Fronts",
            "Accuracy against its costs",
            "Pareto fronts over all points: simulated seconds, joules, and bits over all links.",
            ("fronts",),
            (lambda: front_table(findings),),
        ),
        *_targets(findings, given),
        GridPlan(
            "users",
            "Users",
            "How users fare",
            f"Accuracies of the single users after the last round, each {who} at its best setting.",
            ("users",),
            (lambda: clients_table(findings),),
        ),
        GridPlan(
            "all",
            "All settings",
            f"Every {who} at every setting",
            "Interquartile means over the seeds with 95 % intervals; the best of a column is bold.",
            tables=(lambda: headline_table(findings),),
        ),
    ]


def _curves(findings: Findings, names: Sequence[str]) -> list[GridPlan]:
    """Bars of what has no rounds, curves of what has."""
    curves = tuple(name for name in names if name.startswith("curves-"))
    intro = "Each at its best setting."
    bars = "Accuracy and costs of policies"
    title = "Accuracy over rounds and costs"
    plans = [GridPlan("policies", "Policies", bars, intro, ("policies",))]
    plans = plans if "policies" in names else []
    if curves:
        plans.append(GridPlan("curves", "Curves", title, intro, curves, switched=True))
    return plans


def _targets(findings: Findings, given: Sequence[float]) -> list[GridPlan]:
    if findings.only_policies and not given:
        return []
    return [
        GridPlan(
            "targets",
            "Cost to target",
            "What reaching an accuracy took",
            "Until the first evaluated round at the target, seed by seed; a cost stands only where "
            "every seed got there.",
            tables=(lambda: target_table(findings, targets_of(findings, given)),),
        )
    ]


def fill(plan: GridPlan, draws: Callable[[str], str]) -> GridSection:
    """Makes one section.

    Args:
        plan: what it should hold.
        draws: tries one picture; returns why there is nothing to show, or nothing.

    Returns:
        The section; parts that there is nothing for are replaced by sentences.
    """
    pictures, tables, missing = [], [], []
    for name in plan.pictures:
        reason = draws(name)
        if reason:
            missing.append(reason)
        else:
            pictures.append(name)
    for make in plan.tables:
        try:
            table = make()
        except NothingToShow as reason:
            missing.append(str(reason))
        else:
            tables += [table] if table is not None and table.rows else []
    if plan.name == "effects" and not plan.pictures:
        missing.append("There is one point only, so no setting has an effect to show.")
    missing = [] if plan.switched and pictures else missing
    return GridSection(plan, pictures, tables, list(dict.fromkeys(missing)))
