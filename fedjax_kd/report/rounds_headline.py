"""A rounds study in words and numbers: the proposed method against each contestant."""

from __future__ import annotations

import numpy as np

from fedjax_kd.report.headline import Change, Figure, Headline
from fedjax_kd.report.names import Metric
from fedjax_kd.report.numbers import scale_for
from fedjax_kd.report.rounds_names import (
    COSTS,
    SCOPES,
    counted_scope,
    scopes_in_order,
    view_name,
)
from fedjax_kd.report.rounds_reference import above_reference
from fedjax_kd.report.rounds_results import Contestant, RoundsResults
from fedjax_kd.report.rounds_values import (
    absent_contestants,
    cost_to_target,
    gap_of,
    seed_values,
    shown_contestants,
    summary_value,
    target_accuracy,
    target_shares,
    verdict_of,
)
from fedjax_kd.report.rounds_wording import listed, quoted, signed
from fedjax_kd.statistics import mean_interval

_MOST_NAMED = 12  # contestants in a card


def rounds_headline(results: RoundsResults) -> Headline | None:
    """Accuracies and costs of the proposed method; None where it has no accuracies.

    Where no method is proposed, they are those of the reference, and the others' are held against
    it.
    """
    shown = shown_contestants(results)
    proposed = results.proposed
    if proposed is None or proposed not in shown:
        return None
    others = [each for each in shown if each != proposed]
    figures = [
        figure
        for scope in scopes_in_order(results)
        if (figure := _accuracy_figure(results, proposed, others, scope)) is not None
    ]
    figures += [
        figure
        for metric in COSTS
        if (figure := _cost_figure(results, proposed, others, metric)) is not None
    ]
    compared = _order if results.reference is None else above_reference
    sentences = [
        *_reached(results, proposed),
        *compared(results, others),
        *(
            sentence
            for share in target_shares(results)
            for sentence in _to_target(results, [proposed, *others], share)
        ),
        *absent_contestants(results),
    ]
    return Headline(figures, sentences)


def _accuracy_figure(
    results: RoundsResults, proposed: Contestant, others: list[Contestant], scope: str
) -> Figure | None:
    metric = f"accuracy_{scope}"
    best = seed_values(results, proposed.name, proposed.views[0], metric, "best")
    if best.empty:
        return None
    mean, low, high = mean_interval(100 * best)
    half = f"{(high - low) / 2:.1f} %" if np.isfinite(low) else ""
    changes = []
    for other in others[:_MOST_NAMED]:
        theirs = seed_values(results, other.name, other.views[0], metric, "best")
        if theirs.empty:
            continue
        gap = gap_of(results, other, metric, "best")
        verdict = verdict_of(gap)
        text = "within the interval" if verdict == "same" else signed(gap)
        changes.append(
            Change(other.name, other.title, f"{100 * theirs.mean():.1f} %", text, verdict)
        )
    title = f"{scope.capitalize()} accuracy, best round{_whose(results)}"
    return Figure(title, f"{mean:.1f} %", half, SCOPES[scope], changes)


def _whose(results: RoundsResults) -> str:
    return "" if results.reference is None else f": {results.reference.title}"


def _cost_figure(
    results: RoundsResults, proposed: Contestant, others: list[Contestant], metric: Metric
) -> Figure | None:
    mean = summary_value(results, proposed.name, proposed.views[0], metric.key)
    if not np.isfinite(mean):
        return None
    known = {
        other.name: summary_value(results, other.name, other.views[0], metric.key)
        for other in others[:_MOST_NAMED]
    }
    scale = scale_for(metric.kind, [value for value in (mean, *known.values()) if value > 0])
    half = summary_value(results, proposed.name, proposed.views[0], f"{metric.key}_half")
    changes = []
    for other in others[:_MOST_NAMED]:
        theirs = known[other.name]
        if np.isfinite(theirs):
            text, verdict = _ratio(mean, theirs)
            if results.reference is not None:
                text, verdict = _ratio(theirs, mean)
            value = scale.with_unit(theirs) if theirs else "none"
            changes.append(Change(other.name, other.title, value, text, verdict))
    half_text = scale.with_unit(half) if np.isfinite(half) and half > 1e-6 * mean else ""
    title = f"{metric.title}, whole run{_whose(results)}"
    shown = scale.with_unit(mean) if mean else "none"
    return Figure(title, shown, half_text, "", changes)


def _ratio(mean: float, other: float) -> tuple[str, str]:
    """How the proposed method's cost compares with another's, and whether that is good."""
    if other == 0:
        return ("the same", "same") if mean == 0 else ("", "worse")
    ratio = mean / other
    if round(100 * abs(ratio - 1), 1) == 0:
        return "the same", "same"
    if ratio >= 2:
        return f"× {ratio:,.1f}", "worse"
    size = 100 * (ratio - 1)
    written = f"{size:+.0f} %" if abs(size) >= 9.95 else f"{size:+.1f} %"
    return written.replace("-", "−"), "worse" if ratio > 1 else "better"


def _reached(results: RoundsResults, proposed: Contestant) -> list[str]:
    """What the proposed method comes to, at its best round and at the last."""
    parts = []
    for scope in scopes_in_order(results):
        texts = []
        for when in ("best", "last"):
            values = seed_values(
                results, proposed.name, proposed.views[0], f"accuracy_{scope}", when
            )
            if len(values):
                mean, low, high = mean_interval(100 * values)
                half = f" ± {(high - low) / 2:.1f}" if np.isfinite(low) else ""
                texts.append(f"{mean:.1f}{half} %")
        if texts:
            parts.append(
                f"{texts[0]} {scope} accuracy at the best round and {texts[1]} at the last"
            )
    models = view_name(proposed.views[0])
    several = len(proposed.views) > 1
    who = f"The {models} of {proposed.title}" if several else proposed.title
    verb = "reach" if several and models.endswith("s") else "reaches"
    return [f"{who} {verb} {'; '.join(parts)}."] if parts else []


def _order(results: RoundsResults, others: list[Contestant]) -> list[str]:
    """Whether the proposed method is above each contestant in the counted accuracy."""
    scope = counted_scope(results)
    sentences, failed = [], {}
    for when, words in (("best", "At the best round"), ("last", "At the last round")):
        groups: dict[str, list[str]] = {"better": [], "same": [], "worse": []}
        for other in others:
            gap = gap_of(results, other, f"accuracy_{scope}", when)
            if not np.isfinite(gap[0]):
                continue
            verdict = verdict_of(gap)
            groups[verdict].append(f"{quoted(other.title)} ({signed(gap)})")
            if verdict != "better" and not other.variant:
                failed.setdefault(when, []).append(quoted(other.title))
        told = [
            f"{words_of} {listed(groups[verdict])}"
            for verdict, words_of in (
                ("better", "it is above"),
                ("same", "within the interval of"),
                ("worse", "below"),
            )
            if groups[verdict]
        ]
        if told:
            if not told[0].startswith("it is"):
                told[0] = f"it is {told[0]}"
            sentences.append(f"{words}, in points of {scope} accuracy, {'; '.join(told)}.")
    baselines = [each for each in others if not each.variant]
    if not sentences or not baselines:
        return sentences
    many = "every baseline" if any(each.variant for each in others) else "every contestant"
    expected = f"The expected order, the proposed method above {many},"
    if not failed:
        sentences.append(f"{expected} came out, at the best round and at the last.")
    else:
        against = [
            f"at the {when} round against {listed(failed[when])}"
            for when in ("best", "last")
            if when in failed
        ]
        if len(against) == 2 and failed["best"] == failed["last"]:
            against = [f"against {listed(failed['best'])}, neither at the best round nor the last"]
        sentences.append(f"{expected} did not come out {' and '.join(against)}.")
    return sentences


def _to_target(results: RoundsResults, shown: list[Contestant], share: float) -> list[str]:
    """What it costs each contestant to reach a share of the best accuracy."""
    level = target_accuracy(results, share)
    if not np.isfinite(level):
        return []
    parts, never = [], []
    for each in shown:
        rounds = cost_to_target(results, each, "rounds", share)
        if not np.isfinite(rounds):
            never.append(quoted(each.title))
            continue
        costs = [f"{rounds:.0f} rounds" if rounds >= 9.5 else f"{rounds:.1f} rounds"]
        for metric in COSTS:
            value = cost_to_target(results, each, metric.key, share)
            if np.isfinite(value):
                written = scale_for(metric.kind, [value]).with_unit(value)
                costs.append(written if value else f"no {metric.title.lower()}")
        parts.append(f"{quoted(each.title)} in {listed(costs)}")
    scope = counted_scope(results)
    best = f"the proposed method's best {scope} accuracy"
    if results.reference is not None:
        best = f"the best {scope} accuracy of all"
    if not parts:
        return []
    sentence = f"{100 * share:.0f} % of {best} ({100 * level:.1f} %) is reached by "
    sentence += "; ".join(parts)
    if never:
        sentence += f"; never by {listed(never)}"
    return [f"{sentence}."]
