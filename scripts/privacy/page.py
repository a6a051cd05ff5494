"""The page: what was run, one table for noise and one for bits, and how to read them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from .trade_off import DELTA, Terms

TITLES = {"local": "Local", "fd": "FD, class tables", "ds_fl": "DS-FL, public scores"}
KEYS = ["method", "channel", "epsilon", "multiplier", "bits"]


def summary_of(frame: pd.DataFrame, terms: Terms, n_classes: int) -> pd.DataFrame:
    """Means over the seeds and half of the 95 % t interval, in percent.

    Args:
        frame: as `trade_off` makes it.
        terms: what was run.
        n_classes: C, for the numbers in an upload: C^2 of a class table, P C of public scores.
    """
    grouped = frame.groupby(KEYS, dropna=False, sort=False)
    summary = grouped.agg(
        accuracy=("accuracy", "mean"), half=("accuracy", _half), uplink_bits=("uplink_bits", "mean")
    ).reset_index()
    summary[["accuracy", "half"]] *= 100
    numbers = {"local": np.nan, "fd": n_classes**2, "ds_fl": terms.public * n_classes}
    of_upload = np.asarray([numbers[method] for method in summary["method"]])
    summary["bits_per_number"] = summary["uplink_bits"] / of_upload
    return summary


def page_text(
    summary: pd.DataFrame, terms: Terms, *, command: str, date: str, machine: str, seconds: float
) -> str:
    """The text of README.md."""
    lines = [
        "# Accuracy against privacy and against bits",
        "",
        f"`{command}`, {date}, {machine}, {seconds / 60:.0f} minutes. Figures: `privacy.csv`.",
        "",
        "![Accuracy against epsilon, and against bits per number](privacy.svg)",
        "",
        f"{terms.users} users of {terms.source} with at most {terms.examples} training examples"
        f" each (Dirichlet {terms.alpha:g}), an MLP with {terms.hidden} hidden units,"
        f" {terms.rounds} rounds of {terms.epochs} epochs, all users in every round,"
        f" {len(terms.seeds)} seeds; accuracy on the users' own test data after the last round,"
        " mean ± half of the 95 % t interval. DS-FL has"
        f" {terms.public} public examples and T = 0.1. All numbers here are our choices.",
        "",
        "## Noise",
        "",
        "The unit is a client: its whole upload, clipped to the norm that no upload exceeds, has"
        " its share of Gaussian noise added, so that the sum of all uploads carries multiplier x"
        " clip. That hides a client from a server that sees sums only (a secure sum). Epsilon is of"
        f" all rounds together, by Renyi divergences, at delta {DELTA:g}, without amplification,"
        " for everybody takes part in every round. Rows of classes that a user lacks are sent as"
        " noise.",
        "",
        "| method | epsilon | noise multiplier | own accuracy [%] |",
        "|---|--:|--:|--:|",
    ]
    rows: list[Any] = list(summary.itertuples())
    for row in (each for each in rows if each.channel == "noise"):
        epsilon = "none" if np.isinf(row.epsilon) else f"{row.epsilon:g}"
        lines.append(
            f"| {TITLES[row.method]} | {epsilon} | {row.multiplier:.2f} |"
            f" {row.accuracy:.1f} ± {row.half:.1f} |"
        )
    lines += [
        "",
        "## Bits",
        "",
        "Quantised: class tables on an even grid between a row's least and largest number (its two"
        " ends cost 64 bits more), public scores by largest remainders (one bit: one-hot), priced"
        " at the fixed length of a row. Secure sum: unsigned fixed point, each number as many bits"
        " as the sum of all users needs; rows of absent classes cost as much as the others, and"
        " each class has its count beside its vector. An entry is one of the C x C of a class table"
        " or P x C of public scores: a user sends exact or quantised rows of its own classes only.",
        "",
        "| method | channel | bits asked for | bits crossed per entry | own accuracy [%] |",
        "|---|---|--:|--:|--:|",
    ]
    for row in (each for each in rows if each.channel not in ("noise", "nothing sent")):
        lines.append(
            f"| {TITLES[row.method]} | {row.channel} | {row.bits:g} | {row.bits_per_number:.2f} |"
            f" {row.accuracy:.1f} ± {row.half:.1f} |"
        )
    (local,) = (each for each in rows if each.method == "local")
    lines += ["", f"Local, which sends nothing: {local.accuracy:.1f} ± {local.half:.1f}.", ""]
    return "\n".join(lines)


def _half(values: pd.Series) -> float:
    n = len(values)
    return float(stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / np.sqrt(n)) if n > 1 else 0.0
