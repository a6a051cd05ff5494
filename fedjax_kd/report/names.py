"""What policies, costs and metrics are called in a report, and in which order they come."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from fedjax_kd.report.results import Results

PROPOSED = "q_learning"


class PolicyName(NamedTuple):
    """How a policy is shown, and one clause that says what it does."""

    name: str
    meaning: str


POLICIES: dict[str, PolicyName] = {
    "q_learning": PolicyName(
        "Q-learning (proposed)",
        "Tabular Q-learning picks student and place; the allocation is optimised.",
    ),
    "q_learning_equal_split": PolicyName(
        "Q-learning (equal split)",
        "The same search, but bandwidth and server compute are shared equally.",
    ),
    "greedy": PolicyName(
        "Greedy per user",
        "Each user takes what is best for it alone, reckoning with an equal share of everything.",
    ),
    "all_device": PolicyName(
        "All on devices",
        "Everybody trains on their own device, with the student that is best for it there.",
    ),
    "all_server": PolicyName(
        "All at server",
        "Everybody trains at the digital twin, with the student that is best for it there.",
    ),
    "random": PolicyName("Random", "Student and place are drawn at random."),
    "smallest": PolicyName(
        "Smallest student", "Everybody takes the smallest student, at the better place for it."
    ),
    "largest": PolicyName(
        "Largest student", "Everybody takes the largest student, at the better place for it."
    ),
    "no_distillation": PolicyName(
        "No distillation",
        "The proposed choices, but students learn from their own hard labels only.",
    ),
    "fedavg_smallest": PolicyName(
        "FedAvg (smallest)", "One smallest model, averaged over all users in rounds."
    ),
    "exhaustive": PolicyName(
        "Exhaustive search", "The best of all joint decisions; only for few users."
    ),
}

CAUSES: dict[str, str] = {
    "teacher_inference": "teacher inference",
    "uplink": "uplink",
    "training_device": "training on device",
    "training_server": "training at server",
    "downlink": "downlink",
}

SOFT_LABELS: dict[str, str] = {
    "none": "without distillation",
    "synchronised": "distilled, synchronised part",
    "all": "distilled, all samples",
}

Kind = Literal["fraction", "seconds", "joules", "bits", "flops", "utility", "rounds"]


class Metric(NamedTuple):
    """A number of one policy: its column in the summary, its head and what is good."""

    key: str
    title: str
    kind: Kind
    better: Literal["high", "low"]
    meaning: str


METRICS: tuple[Metric, ...] = (
    Metric(
        "accuracy_personal_mean",
        "Personal accuracy",
        "fraction",
        "high",
        "accuracy on each user's own test split, mean over users",
    ),
    Metric(
        "accuracy_personal_std",
        "Personal spread",
        "fraction",
        "low",
        "standard deviation of the personal accuracy over users",
    ),
    Metric(
        "accuracy_personal_worst_decile",
        "Personal worst decile",
        "fraction",
        "high",
        "personal accuracy of the worst tenth of the users",
    ),
    Metric(
        "accuracy_common_mean",
        "Common accuracy",
        "fraction",
        "high",
        "accuracy of each user's model on the common test set, mean over users",
    ),
    Metric(
        "accuracy_common_std",
        "Common spread",
        "fraction",
        "low",
        "standard deviation of the common accuracy over users",
    ),
    Metric(
        "accuracy_common_worst_decile",
        "Common worst decile",
        "fraction",
        "high",
        "common accuracy of the worst tenth of the users",
    ),
    Metric("delay_s", "Total delay", "seconds", "low", "sum of all users' delays"),
    Metric("makespan_s", "Makespan", "seconds", "low", "delay of the slowest user"),
    Metric("energy_j", "Energy", "joules", "low", "energy of devices and server"),
    Metric("bits", "Traffic", "bits", "low", "bits sent over the air, both directions"),
    Metric(
        "utility",
        "U",
        "utility",
        "high",
        "accuracy minus weighted normalised delay, from the accuracies reported",
    ),
    Metric(
        "utility_planned",
        "U planned",
        "utility",
        "high",
        "the same from the accuracy table that the policy saw",
    ),
)


def policy_name(policy: str) -> str:
    """The shown name of a policy; an unknown one keeps its own, with blanks."""
    known = POLICIES.get(policy)
    return known.name if known else policy.replace("_", " ")


def policy_order(results: Results) -> list[str]:
    """The policies of a study: the proposed one, then the others from high U to low."""
    found = [str(policy) for policy in results.summary.index]
    if not found:
        found = [str(policy) for policy in results.decisions["policy"].unique()]
    catalog = list(POLICIES)

    def place(policy: str) -> tuple[bool, float, int, str]:
        utility = np.nan
        if "utility" in results.summary.columns and policy in results.summary.index:
            utility = float(results.summary["utility"].loc[policy])
        rank = catalog.index(policy) if policy in catalog else len(catalog)
        return policy != PROPOSED, -utility if np.isfinite(utility) else np.inf, rank, policy

    return sorted(found, key=place)


def student_order(results: Results) -> list[str]:
    """The students of a study from light to heavy by training work, then by first appearance."""
    listed = [each for each in results.manifest.get("students") or [] if "label" in each]
    listed = sorted(listed, key=lambda each: float(each.get("training_flops") or 0))
    labels = [str(each["label"]) for each in listed]
    for table in (results.decisions, results.accuracy_table):
        labels += [str(each) for each in table["student"].unique() if str(each) not in labels]
    return labels


def counted_accuracies(results: Results) -> list[str]:
    """The summary columns whose mean is the accuracy in the study's U."""
    counted = results.setting("objective.accuracy", "personal")
    scopes = ("personal", "common") if counted == "both" else (counted,)
    return [f"accuracy_{scope}_mean" for scope in scopes]


def objective_metrics(results: Results) -> tuple[str, str]:
    """The summary columns of accuracy and delay that the study's U is made of.

    A study whose U counts both accuracies is shown by the personal one.
    """
    delay = "makespan_s" if results.setting("objective.delay") == "makespan" else "delay_s"
    return counted_accuracies(results)[0], delay
