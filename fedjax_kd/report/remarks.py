"""Sentences that say in numbers what a section's picture shows."""

from __future__ import annotations

import numpy as np

from fedjax_kd.report.names import PROPOSED
from fedjax_kd.report.numbers import count_text, scale_for
from fedjax_kd.report.pictures.partition import first_partition, training_counts
from fedjax_kd.report.results import Frame, Results
from fedjax_kd.statistics import mean_interval


def learning_remark(results: Results) -> str:
    """How far the best decision and the greedy roll-out end from the exhaustive optimum."""
    curves = results.metrics[results.metrics["scope"] == "q_learning"]
    if curves.empty:
        return ""
    last = curves.sort_values("round").groupby(["metric", "seed"])["value"].last().unstack("metric")
    episodes = int(curves["round"].max())
    optimum = results.metrics[results.metrics["scope"] == "exhaustive"].set_index("seed")["value"]
    if optimum.empty:
        return (
            f"After {episodes:,} episodes. An exhaustive search over all joint decisions was not "
            "made, so how far this is from the optimum is not known."
        )
    named = (("best_utility", "the best decision"), ("greedy_utility", "the greedy roll-out"))
    parts = [
        f"{name} {round((optimum - last[metric]).mean(), 4) + 0.0:.4f}"
        for metric, name in named
        if metric in last.columns
    ]
    return (
        f"After {episodes:,} episodes the mean gap in U to the exhaustive optimum is: "
        f"{', '.join(parts)}."
    )


def teacher_remark(results: Results) -> str:
    """Where the teacher ends, and how long its training would take at the server."""
    curve = results.metrics[
        (results.metrics["scope"] == "teacher") & (results.metrics["metric"] == "accuracy_common")
    ]
    parts = []
    if len(curve):
        final = curve.sort_values("round").groupby("seed")["value"].last()
        parts.append(
            f"After round {int(curve['round'].max())} its accuracy on the common data is "
            f"{_with_range(100 * final, 1)} %."
        )
    study = results.metrics[results.metrics["scope"] == "study"]
    training_s = study[study["metric"] == "teacher_training_s"]["value"]
    if len(training_s):
        scale = scale_for("seconds", training_s)
        parts.append(
            f"Training it at the server takes {scale.with_unit(float(training_s.mean()))} of "
            "simulated time; this is the same for all policies and not part of their delays."
        )
    profile = results.manifest.get("teacher") or {}
    if profile.get("parameters"):
        label = profile.get("label", "the teacher")
        parts.append(
            f"The model is {label}, {count_text(float(profile['parameters']))} parameters."
        )
    return " ".join(parts)


def partition_remark(results: Results) -> str:
    """How many examples and classes the users hold, for the first seed."""
    if results.partition.empty:
        return ""
    seed, rows = first_partition(results)
    counts = training_counts(rows)
    sizes = counts.sum(axis=1)
    classes = (counts > 0).sum(axis=1)
    largest = (counts.max(axis=1) / sizes.where(sizes > 0)).median()
    return (
        f"Seed {seed}: {len(counts)} users hold {int(sizes.sum()):,} training examples, from "
        f"{int(sizes.min()):,} to {int(sizes.max()):,} each (median {sizes.median():,.0f}). A user "
        f"holds {_range_text(classes)} of {counts.shape[1]} classes; the most frequent class makes "
        f"up {100 * largest:.0f} % of the median user's examples."
    )


def shares_remark(results: Results) -> str:
    """How many users the proposed policy sends to the server."""
    mine = results.decisions[results.decisions["policy"] == PROPOSED]
    if mine.empty:
        return ""
    server = 100 * (mine["place"] == "server").mean()
    common = mine["student"].value_counts(normalize=True)
    return (
        f"The proposed policy trains {server:.0f} % of the users at the server; its most frequent "
        f"student is {common.index[0]} ({100 * common.iloc[0]:.0f} % of the users)."
    )


def _with_range(values: Frame, decimals: int) -> str:
    mean, low, high = mean_interval(values)
    half = (high - low) / 2
    text = f"{mean:.{decimals}f}"
    return f"{text} ± {half:.{decimals}f}" if np.isfinite(half) else text


def _range_text(values: Frame) -> str:
    low, high = int(values.min()), int(values.max())
    return str(low) if low == high else f"{low} to {high}"
