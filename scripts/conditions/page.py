"""The page of a comparison: one table per condition, and how far ahead the method is in each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from conditions.figures import MOMENTS, SCOPES, TOTALS, Condition, Row, ahead, interval

HEAD = (
    "Contestant",
    "Own test data, best [%]",
    "last [%]",
    "Common test data, best [%]",
    "last [%]",
    "Time [s]",
    "Energy [J]",
    "Traffic [Gbit]",
    "Work [TFLOP]",
)
TO_TARGETS = (
    "Traffic to 80 and 90 % is that of all clients, up and down, until a contestant reached that",
    "share of the best accuracy that any contestant had on the clients' own test data, seed by",
    "seed; *never* where it did not with some seed.",
)
TO_THE_BEST = {"bits_to_80": "To 80 % of the best [Mbit]", "bits_to_90": "To 90 % [Mbit]"}


def comparison_frame(conditions: Sequence[Condition]) -> pd.DataFrame:
    """Every figure of every condition, one row per contestant and view."""
    rows = []
    for condition in conditions:
        for row in condition.rows:
            figures: dict[str, object] = {}
            for scope in SCOPES:
                for moment in MOMENTS:
                    mean, half = interval(row.accuracy[scope, moment])
                    name = f"accuracy_{scope}_{moment}"
                    figures |= {name: mean, f"{name}_half": half}
                    lead, lead_half = ahead(condition.lead, row, scope, moment)
                    name = f"proposed_ahead_{scope}_{moment}"
                    if condition.reference:
                        lead, name = -lead, f"above_reference_{scope}_{moment}"
                    figures |= {name: lead, f"{name}_half": lead_half}
            rows.append(
                {
                    "condition": condition.name,
                    "contestant": row.contestant,
                    "view": row.view,
                    **figures,
                    **row.totals,
                }
            )
    return pd.DataFrame(rows)


def page_text(
    *,
    title: str,
    command: str,
    date: str,
    machine: str,
    minutes: float,
    reading: str,
    conditions: Sequence[Condition],
    scope: str,
    pictures: Sequence[str],
) -> str:
    """The README of a comparison.

    Args:
        title: of the page.
        command: that makes it.
        date: of the page, ISO.
        machine: kind of machine.
        minutes: what all runs took.
        reading: what the figures say, in words written by hand.
        conditions: the runs; the first is the main one.
        scope: the accuracy that the comparison is about, `personal` or `common`.
        pictures: file names of the first condition's pictures.
    """
    words = {"personal": "the clients' own test data", "common": "the common test data"}[scope]
    lines = [
        f"# {title}",
        "",
        f"Made by `{command}`",
        f"on {date}, {machine}; the runs took {minutes:.0f} minutes together.",
        "",
        *([reading, ""] if reading else []),
        "Means over the clients, then over the seeds, with half the width of the 95 % t interval",
        "over the seeds. *Best* is the best evaluated round, *last* the last one. Time, energy and",
        "traffic are those of the whole run in a simulated cell, whose constants are assumptions.",
        *(TO_TARGETS if conditions[0].reference else ()),
        "",
        f"![Accuracy of every contestant on {words}](conditions.svg)",
        "",
    ]
    for condition in conditions:
        lines += [f"## {condition.title}", "", *_table(condition), ""]
        lines += [f"{name} has no figures: {reason}" for name, reason in condition.diverged]
        leads = _leads(condition, scope)
        if leads and condition.reference:
            lines += [f"Above {leads[0]} on {words}, paired by seed: {leads[1]}.", ""]
        elif leads:
            lines += [f"{leads[0]} is ahead on {words}, paired by seed, by {leads[1]}.", ""]
    lines += [f"## Pictures: {conditions[0].title}", ""]
    lines += [f"![{name.removesuffix('.svg')}]({name})" for name in pictures]
    return "\n".join(lines) + "\n"


def _table(condition: Condition) -> Iterator[str]:
    head = (*HEAD, *(TO_THE_BEST.values() if condition.reference else ()))
    yield f"| {' | '.join(head)} |"
    yield f"| --- |{' ---: |' * (len(head) - 1)}"
    best = {
        key: max(interval(row.accuracy[key])[0] for row in condition.rows)
        for key in ((s, m) for s in SCOPES for m in MOMENTS)
    }
    for row in condition.rows:
        cells = []
        for key, highest in best.items():
            mean, half = interval(row.accuracy[key])
            text = _points(mean, half)
            cells.append(f"**{text}**" if mean == highest else text)
        scales = dict(zip(TOTALS, (1, 1, 1e9, 1e12), strict=True))
        cells += [_short(row.totals[metric] / scale) for metric, scale in scales.items()]
        if condition.reference:
            spent = [row.totals[metric] / 1e6 for metric in TO_THE_BEST]
            cells += [_short(value) if np.isfinite(value) else "never" for value in spent]
        yield f"| {_name(row, condition)} | {' | '.join(cells)} |"


def _name(row: Row, condition: Condition) -> str:
    views = [each.view for each in condition.rows if each.contestant == row.contestant]
    return row.title if len(views) == 1 else f"{row.title}: {row.view}"


def _leads(condition: Condition, scope: str) -> tuple[str, str] | tuple[()]:
    """What others are held against, and how far it is ahead of each, or each of a reference."""
    proposed, parts = condition.lead, []
    if proposed is None:
        return ()
    for row in condition.rows:
        if row is proposed:
            continue
        said = []
        for moment in MOMENTS:
            mean, half = ahead(proposed, row, scope, moment)
            mean = -mean if condition.reference else mean
            said.append(f"{_points(mean, half, '+.1f')} ({moment})")
        if condition.reference:
            parts.append(f"{_name(row, condition)} by {' and '.join(said)} points")
        else:
            parts.append(f"{' and '.join(said)} points against {_name(row, condition)}")
    return (_name(proposed, condition), "; ".join(parts)) if parts else ()


def _points(mean: float, half: float, form: str = ".1f") -> str:
    text = f"{100 * mean:{form}}"
    return f"{text} ± {100 * half:.1f}" if np.isfinite(half) else text


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
