"""The result in words and numbers: the proposed policy against the two one-sided ones."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fedjax_kd.report.names import METRICS, PROPOSED, Metric, objective_metrics, policy_name
from fedjax_kd.report.numbers import Scale, scale_for
from fedjax_kd.report.policy_table import half_interval
from fedjax_kd.report.results import Results

AGAINST = ("all_device", "all_server")


class Change(NamedTuple):
    """How one metric of the proposed policy compares with another policy's."""

    policy: str
    other: str
    value: str  # the other policy's, with unit
    text: str
    verdict: str  # "better", "worse" or "same"


class Figure(NamedTuple):
    """One metric of the proposed policy."""

    title: str
    value: str
    half: str
    meaning: str
    changes: list[Change]


class Headline(NamedTuple):
    """The figures, and sentences that say how they compare."""

    figures: list[Figure]
    sentences: list[str]


def headline(results: Results) -> Headline | None:
    """Words and numbers on accuracy, delay, energy, U; None without the proposed policy's row."""
    if PROPOSED not in results.summary.index:
        return None
    accuracy, delay = objective_metrics(results)
    known = {metric.key: metric for metric in METRICS}
    wanted = [known[key] for key in (accuracy, delay, "energy_j", "utility")]
    figures = [_figure(results, metric) for metric in wanted if np.isfinite(_mean(results, metric))]
    if not figures:
        return None
    sentences = [_reached(figures), *_comparisons(figures), *_ranking(results, known["utility"])]
    return Headline(figures, sentences)


def _mean(results: Results, metric: Metric, policy: str = PROPOSED) -> float:
    if metric.key not in results.summary.columns or policy not in results.summary.index:
        return np.nan
    return float(results.summary[metric.key].loc[policy])


def _figure(results: Results, metric: Metric) -> Figure:
    mean = _mean(results, metric)
    scale = scale_for(metric.kind, [mean])
    half = half_interval(results, PROPOSED, metric.key)
    changes = [
        _change(metric, scale, mean, other, _mean(results, metric, other))
        for other in AGAINST
        if np.isfinite(_mean(results, metric, other))
    ]
    half_text = scale.with_unit(half) if np.isfinite(half) else ""
    return Figure(metric.title, scale.with_unit(mean), half_text, metric.meaning, changes)


def _change(metric: Metric, scale: Scale, mean: float, other: str, other_mean: float) -> Change:
    value = scale.with_unit(other_mean)
    if metric.kind in ("fraction", "utility"):
        decimals, factor = (1, 100.0) if metric.kind == "fraction" else (3, 1.0)
        size = round(abs(mean - other_mean) * factor, decimals)
        unit = " points" if metric.kind == "fraction" else ""
        word = "higher" if mean > other_mean else "lower"
        text = f"{size:.{decimals}f}{unit} {word}"
    else:
        ratio = mean / other_mean if other_mean else np.inf
        size = round(100 * abs(ratio - 1), 1) if np.isfinite(ratio) else np.inf
        word = "less" if ratio < 1 else "more"
        text = f"{size:.0f} % {word}" if size >= 9.95 else f"{size:.1f} % {word}"
        if ratio >= 2:
            text = f"{ratio:.1f} times as much"
    if size == 0:
        return Change(other, policy_name(other), value, "the same", "same")
    better = (mean > other_mean) == (metric.better == "high")
    return Change(other, policy_name(other), value, text, "better" if better else "worse")


def _reached(figures: list[Figure]) -> str:
    """What the proposed policy comes to, in one sentence."""
    parts = [
        f"{'an' if figure.title[0] in 'AEIO' else 'a'} {_within_sentence(figure.title)} of "
        f"{figure.value}"
        for figure in figures
    ]
    listed = f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else parts[0]
    return f"{policy_name(PROPOSED)} reaches {listed}."


def _within_sentence(title: str) -> str:
    """A title as it stands inside a sentence; abbreviations stay as they are."""
    first = title.split()[0]
    plain_word = len(first) > 1 and first[1:].islower()
    return title[0].lower() + title[1:] if plain_word else title


def _comparisons(figures: list[Figure]) -> list[str]:
    """One sentence for each policy compared with, e.g. `Against all at server: …`."""
    sentences = []
    for other in AGAINST:
        parts = [
            f"{_within_sentence(figure.title)} {change.text}"
            for figure in figures
            for change in figure.changes
            if change.policy == other
        ]
        if parts:
            name = _within_sentence(policy_name(other))
            sentences.append(f"Against {name}: {', '.join(parts)}.")
    return sentences


def _ranking(results: Results, metric: Metric) -> list[str]:
    """Whether the proposed policy has the highest U, and if not, which has."""
    if metric.key not in results.summary.columns:
        return []
    utilities = results.summary[metric.key].dropna()
    if PROPOSED not in utilities.index or len(utilities) < 2:
        return []
    best, mine = str(utilities.idxmax()), float(utilities.loc[PROPOSED])
    if mine >= float(utilities.max()):
        return [f"Its U is the highest of the {len(utilities)} policies compared."]
    name = _within_sentence(policy_name(best))
    gap = float(utilities.max()) - mine
    higher = int((utilities > mine).sum())
    also = f"; {higher} of {len(utilities)} policies are above it" if higher > 1 else ""
    return [f"The highest U is that of {name}, by {gap:.4f}{also}."]
