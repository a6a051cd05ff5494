"""The report's sections in order: what each says, shows and lists, or why it has nothing to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from fedjax_kd.report.errors import NothingToShow
from fedjax_kd.report.pictures import Picture
from fedjax_kd.report.remarks import (
    learning_remark,
    partition_remark,
    shares_remark,
    teacher_remark,
)
from fedjax_kd.report.side_tables import (
    SideTable,
    causes_table,
    frontier_table,
    students_table,
    users_table,
)


class Plan(NamedTuple):
    """A section before it is filled: pictures by name, tables and the remark by function.

    The functions take the results of the kind of study that the plan is for.
    """

    name: str
    short: str
    title: str
    intro: str
    pictures: tuple[str, ...]
    tables: tuple[Callable[[Any], SideTable], ...] = ()
    remark: Callable[[Any], str] | None = None


class Shown(NamedTuple):
    """A picture in both layouts, as SVG elements."""

    name: str
    caption: str
    wide: str
    narrow: str


class Section(NamedTuple):
    """A section as the template takes it; `missing` says what could not be shown."""

    name: str
    short: str
    title: str
    intro: str
    remark: str
    pictures: list[Shown]
    tables: list[SideTable]
    missing: list[str]


PLANS: tuple[Plan, ...] = (
    Plan(
        "comparison",
        "Comparison",
        "Policy comparison",
        "Every policy decides for the same users, data and channels; the chosen students are then "
        "really trained, and the accuracies are those of the test data.",
        ("comparison",),
    ),
    Plan(
        "frontier",
        "Frontier",
        "Accuracy–delay frontier",
        "What accuracy costs in delay: the weight λ of delay in U is swept from zero upwards.",
        ("frontier",),
        (frontier_table,),
    ),
    Plan(
        "learning",
        "Learning curve",
        "Learning curve of the Q-table",
        "One episode decides for all users in turn; the reward is the growth of U.",
        ("learning",),
        remark=learning_remark,
    ),
    Plan(
        "decisions",
        "Decisions",
        "Who trains what, where",
        "Each user takes one student, trained on their device or at the server's digital twin.",
        ("decisions", "shares"),
        (users_table,),
        shares_remark,
    ),
    Plan(
        "costs",
        "Costs",
        "Delay and energy by cause",
        "The ledger of every policy, split by what the time and the energy are spent on.",
        ("costs",),
        (
            lambda results: causes_table(results, "delay_s", "Total delay", "seconds"),
            lambda results: causes_table(results, "energy_j", "Energy", "joules"),
        ),
    ),
    Plan(
        "accuracy-table",
        "Accuracy table",
        "Accuracy table and gain by distillation",
        "Before anything is decided, every student is trained for every user; the policies look "
        "the results up. The same training without the teacher's soft labels shows their worth.",
        ("accuracy_table",),
        (students_table,),
    ),
    Plan(
        "teacher",
        "Teacher",
        "Teacher",
        "The teacher is trained once at the server, on the data that the digital twins hold.",
        ("teacher",),
        remark=teacher_remark,
    ),
    Plan(
        "partition",
        "Partition",
        "Who holds what",
        "The users' private data, which differ in size and in classes.",
        ("partition",),
        remark=partition_remark,
    ),
)


def fill(
    plan: Plan,
    results: Any,
    draw: Callable[[str], tuple[str, str]],
    catalog: Mapping[str, Picture],
) -> Section:
    """Makes one section.

    Args:
        plan: what it should hold.
        results: the study.
        draw: from a picture's name to its wide and narrow SVG element; raises `NothingToShow`.
        catalog: the pictures of this kind of study, for their captions.

    Returns:
        The section; parts whose tables are absent are replaced by a sentence.
    """
    pictures, tables, missing = [], [], []
    for name in plan.pictures:
        try:
            pictures.append(Shown(name, catalog[name].caption, *draw(name)))
        except NothingToShow as reason:
            missing.append(str(reason))
    for make in plan.tables:
        try:
            tables.append(make(results))
        except NothingToShow as reason:
            missing += [str(reason)] if pictures else []
    remark = plan.remark(results) if plan.remark and pictures else ""
    missing = list(dict.fromkeys(missing))
    return Section(plan.name, plan.short, plan.title, plan.intro, remark, pictures, tables, missing)
