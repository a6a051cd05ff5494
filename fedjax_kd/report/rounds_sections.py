"""The sections of a rounds study's report, in order; one may be about what is special in it."""

from __future__ import annotations

from fedjax_kd.report.pictures.rounds_cycle import cycle_remark
from fedjax_kd.report.pictures.rounds_distillation import distillation_remark
from fedjax_kd.report.pictures.rounds_mixing import mixing_remark
from fedjax_kd.report.remarks import partition_remark
from fedjax_kd.report.rounds_results import RoundsResults
from fedjax_kd.report.rounds_side_tables import (
    groups_table,
    ledger_table,
    models_table,
    users_table,
)
from fedjax_kd.report.sections import Plan

_SPECIAL = {
    "on_device_kd": Plan(
        "distillation",
        "Distillation",
        "Teacher, target and the weight of distillation",
        "The small auxiliary model learns from everybody's labelled examples and teaches the "
        "target on the strong users' unlabelled ones, with a weight that grows over the rounds.",
        ("distillation",),
        remark=distillation_remark,
    ),
    "dfml": Plan(
        "cycle",
        "Cycle",
        "The cycle of α, peak and regular models",
        "The weight α moves between supervision (0) and mutual distillation (1); every user keeps "
        "a copy of its model from the peak of the cycle.",
        ("cycle",),
        remark=cycle_remark,
    ),
    "pfedafm": Plan(
        "mixing",
        "Mixing",
        "The mixing vectors",
        "Every user weighs, feature by feature, its own extractor against the small shared one; "
        "the vectors start at one, which is the user's own extractor alone.",
        ("mixing",),
        remark=mixing_remark,
    ),
}


def rounds_plans(results: RoundsResults) -> tuple[Plan, ...]:
    """The sections of the study's method."""
    return (
        Plan(
            "comparison",
            "Comparison",
            "Comparison of the contestants",
            "All contestants have the same data, seeds and draws of participants. Where one takes "
            "more steps in a round, or starts otherwise, what each contestant does says so.",
            ("comparison",),
        ),
        Plan(
            "curves",
            "Curves",
            "Accuracy over the rounds",
            "Mean over the users, on each user's own test split (personal) and on one test set for "
            "all (common).",
            ("curves",),
        ),
        Plan(
            "cost",
            "Cost",
            "Accuracy against time, energy and traffic",
            "The same accuracies against what they cost: simulated seconds on the devices and "
            "links, joules, and bits over all links.",
            ("accuracy_cost",),
        ),
        *([_SPECIAL[results.method]] if results.method in _SPECIAL else []),
        Plan(
            "users",
            "Users",
            "Who is who",
            "The users by the model that they are there to get, and how each group of them fares.",
            ("people",),
            (models_table, groups_table, users_table),
        ),
        Plan(
            "ledger",
            "Ledger",
            "Ledger by phase and cause",
            "What each phase of a round asks of the devices, the links and the server.",
            ("ledger",),
            (ledger_table,),
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
