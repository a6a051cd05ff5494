"""Sentences of a study that proposes no method: who is above the reference, and who is highest."""

from __future__ import annotations

import numpy as np

from fedjax_kd.report.rounds_names import counted_scope, scopes_in_order
from fedjax_kd.report.rounds_results import Contestant, RoundsResults
from fedjax_kd.report.rounds_values import gap_of, seed_values, verdict_of
from fedjax_kd.report.rounds_wording import listed, quoted, signed

_MOMENTS = (("best", "at the best round"), ("last", "at the last round"))


def above_reference(results: RoundsResults, others: list[Contestant]) -> list[str]:
    """Which contestants are above the reference in the counted accuracy, and who is highest.

    Args:
        results: the study.
        others: the contestants with curves beside the reference.
    """
    reference = results.reference
    if reference is None:
        return []
    scope, sentences = counted_scope(results), []
    for when, words in _MOMENTS:
        groups: dict[str, list[str]] = {"better": [], "same": [], "worse": []}
        for other in others:
            gap = gap_of(results, other, f"accuracy_{scope}", when)
            if np.isfinite(gap[0]):
                groups[verdict_of(gap)].append(f"{quoted(other.title)} ({signed(gap)})")
        told = [
            f"{opening} {listed(groups[verdict])}"
            for verdict, opening in (
                ("better", "above it"),
                ("same", "within the interval"),
                ("worse", "below"),
            )
            if groups[verdict]
        ]
        if told:
            opening = f"{words[0].upper()}{words[1:]}"
            sentences.append(
                f"{opening}, in points of {scope} accuracy against {quoted(reference.title)}: "
                f"{'; '.join(told)}."
            )
    return [*sentences, *_highest(results, [reference, *others])]


def _highest(results: RoundsResults, shown: list[Contestant]) -> list[str]:
    """Whose mean accuracy over the seeds is highest, for both accuracies and moments."""
    parts = []
    for scope in scopes_in_order(results):
        for when, words in _MOMENTS:
            means = {
                each.title: float(values.mean())
                for each in shown
                if len(
                    values := seed_values(
                        results, each.name, each.views[0], f"accuracy_{scope}", when
                    )
                )
            }
            if means:
                first = max(means, key=lambda title: means[title])
                parts.append(f"{scope} {words}: {quoted(first)} ({100 * means[first]:.1f} %)")
    return [f"The highest mean accuracy is, {'; '.join(parts)}."] if parts else []
