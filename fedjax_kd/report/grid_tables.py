"""The tables of a comparison's scores: all settings, the best ones, costs to targets, users."""

from __future__ import annotations

import numpy as np

from fedjax_kd.report.errors import NothingToShow
from fedjax_kd.report.grid_names import (
    QUANTITIES,
    axis_names,
    quantity,
    scope_title,
    setting_text,
    value_key,
    value_text,
)
from fedjax_kd.report.grid_statistics import NOTHING, Estimate
from fedjax_kd.report.grid_table_files import Entry, GridTable, estimated, whole, words
from fedjax_kd.report.grid_values import Findings
from fedjax_kd.report.numbers import scale_for

_SAME_FOR_POLICIES = ("personal_best", "common_best")  # there is one evaluation only


def headline_table(findings: Findings) -> GridTable:
    """Every scope at every point, the best first."""
    comparison, summary = findings.comparison, findings.summary
    if summary.empty:
        raise NothingToShow("No row is done yet, so there are no scores.")
    key = findings.ranked_by
    ranked = summary.assign(rank=summary.get(key, np.nan))
    ranked = ranked.sort_values("rank", ascending=False, kind="stable").drop(columns="rank")
    columns = [each for each in QUANTITIES if each.key in summary.columns]
    if findings.only_policies:
        columns = [each for each in columns if each.key not in _SAME_FOR_POLICIES]
    scales = {each.key: scale_for(each.kind, summary[each.key]) for each in columns}
    tops = {each.key: summary[each.key].max() if each.high else np.nan for each in columns}
    names = axis_names(comparison.axes)
    head = [who(findings)]
    head += [_capital(names[axis]) for axis in comparison.axes] + ["Seeds"]
    for each in columns:
        unit = f" [{scales[each.key].unit}]" if scales[each.key].unit else ""
        title = each.title.replace(", last", "") if findings.only_policies else each.title
        head.append(title + unit)
    rows = []
    for line in ranked.to_dict("records"):
        row = [words(scope_title(comparison, line["scope"]))]
        row += [_axis_entry(comparison.points[a][line["point"]]) for a in comparison.axes]
        row.append(seeds_entry(line["seeds"], line["planned"]))
        for each in columns:
            estimate = estimate_of(line, each.key)
            best = bool(estimate.value == tops[each.key])
            row.append(estimated(estimate, scales[each.key], best))
        rows.append(row)
    full: dict[str, list] = {
        "scope": list(ranked["scope"]),
        "name": [scope_title(comparison, scope) for scope in ranked["scope"]],
        "point": list(ranked["point"]),
        **{a: [_plain(comparison.points[a][p]) for p in ranked["point"]] for a in comparison.axes},
        "seeds": list(ranked["seeds"]),
        "planned_seeds": list(ranked["planned"]),
    }
    for each in columns:
        for end in ("", "_low", "_high"):
            full[each.key + end] = list(ranked[each.key + end])
    title = f"Every {who(findings).lower()} at every setting"
    return GridTable("all-settings", title, head, rows, full)


def best_table(findings: Findings) -> GridTable:
    """The best setting of each scope, and how far the next one is."""
    if not findings.best:
        raise NothingToShow("No setting has a score, so none is best.")
    comparison = findings.comparison
    title = quantity(findings.ranked_by).title
    head = [who(findings)]
    last = f"{findings.counted}_last"
    shows_last = not findings.only_policies
    head += [(title if shows_last else title.replace(", best", "")) + " [%]"]
    head += [f"{quantity(last).title} [%]"] if shows_last else []
    head += ["Best setting", "Seeds", "Chosen among", "Next best", "Lead [points]"]
    rows, full = [], {name: [] for name in _BEST_COLUMNS}
    for each in sorted(findings.best, key=lambda best: -best.estimate.value):
        axes = findings.naming_axes(each.scope)
        line = line_of(findings, each.scope, each.point)
        second = "–" if each.second is None else setting_text(comparison, each.second, axes)
        setting = setting_text(comparison, each.point, axes)
        scale = scale_for("fraction", [1.0])
        row = [words(scope_title(comparison, each.scope)), estimated(each.estimate, scale)]
        row += [estimated(estimate_of(line, last), scale)] if shows_last else []
        row += [words(setting), seeds_entry(line["seeds"], line["planned"])]
        row += [whole(each.settings), words(second)]
        row.append(Entry(scale.text(each.lead), each.lead, number=True))
        rows.append(row)
        values = (
            each.scope,
            each.point,
            setting,
            *each.estimate[:3],
            estimate_of(line, last).value,
        )
        values += (line["seeds"], each.settings, second, each.lead)
        for name, value in zip(_BEST_COLUMNS, values, strict=True):
            full[name].append(value)
    return GridTable("best-settings", "The best setting of each", head, rows, full)


_BEST_COLUMNS = (
    *("scope", "point", "setting", "best", "best_low", "best_high", "last", "seeds"),
    *("chosen_among", "next_best", "lead"),
)


def who(findings: Findings) -> str:
    """What scopes are called in the head of a table."""
    return "Policy" if findings.only_policies else "Contestant"


def seeds_entry(seeds: int, planned: int) -> Entry:
    """How many seeds there are of those that were asked for."""
    return Entry(f"{seeds}" if seeds == planned else f"{seeds} of {planned}", seeds, number=True)


def _axis_entry(value: object) -> Entry:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return Entry(value_text(value), float(value) if number else value_text(value), number)  # pyright: ignore


def _plain(value: object) -> object:
    return value_key(value) if isinstance(value, (list, dict)) else value


def estimate_of(line: dict, key: str) -> Estimate:
    """The estimate of a quantity in a line of the summary."""
    if key not in line:
        return NOTHING
    return Estimate(line[key], line[f"{key}_low"], line[f"{key}_high"], line["seeds"])


def line_of(findings: Findings, scope: str, point: int) -> dict:
    """The line of the summary of one scope and point."""
    summary = findings.summary
    rows = summary[(summary["scope"] == scope) & (summary["point"] == point)]
    return rows.to_dict("records")[0]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
