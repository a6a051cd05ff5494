"""Tables of what was swept, what is compared, and what failed and why."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from fedjax_kd.report.grid_names import axis_values, setting_text, value_text
from fedjax_kd.report.grid_results import Comparison, differing_settings
from fedjax_kd.report.grid_table_files import Entry, GridTable, whole, words

KINDS = {
    "settings": "the settings are refused",
    "data": "the data are not there",
    "diverged": "the training diverged",
    "memory": "memory ran out",
    "defect": "the program failed",
}
_MOST_VALUES = 12  # of one axis that are listed
_EACH_UP_TO = 12  # failures that are listed point by point


class Group(NamedTuple):
    """Rows that failed alike: of one kind, for reasons that differ in numbers only."""

    source: str
    kind: str
    reason: str  # that of the first row
    rows: list[int]
    points: list[int]
    seeds: list[int]


def axes_table(comparison: Comparison) -> GridTable:
    """The settings that differ from point to point, and through which values."""
    rows, full = [], {"setting": [], "values": [], "count": []}
    for axis in comparison.axes:
        values = [value_text(value) for value in axis_values(comparison, axis)]
        text = "; ".join(values[:_MOST_VALUES])
        text += f"; and {len(values) - _MOST_VALUES} more" * (len(values) > _MOST_VALUES)
        rows.append([words(axis), words(text), whole(len(values))])
        for name, value in zip(full, (axis, "; ".join(values), len(values)), strict=True):
            full[name].append(value)
    return GridTable("swept", "What was swept", ["Setting", "Values", "Number"], rows, full)


def sources_table(comparison: Comparison) -> GridTable:
    """The folders, with what differs in the settings that they start from."""
    rows, full = [], {name: [] for name in ("run", "kind", "title", "method", "rows", "done")}
    for each in comparison.sources:
        mine = comparison.rows[comparison.rows["source"] == each.name]
        done = int((mine["state"] == "done").sum())
        method = ", ".join(each.methods)
        rows.append(
            [
                *(words(text) for text in (each.name, each.kind, each.title, method)),
                Entry(f"{done} of {each.rows}", done, number=True),
            ]
        )
        values = (each.name, each.kind, each.title, method, each.rows, done)
        for name, value in zip(full, values, strict=True):
            full[name].append(value)
    head = ["Folder", "Kind", "Title", "Method", "Rows done"]
    return GridTable("compared", "What is compared", head, rows, full)


def differences_table(comparison: Comparison) -> GridTable | None:
    """The settings in which the folders differ before anything is swept; None for one folder."""
    found = differing_settings(comparison.sources)
    if not found:
        return None
    names = [each.name for each in comparison.sources]
    rows = [[words(path), *(words(value_text(v)) for v in values)] for path, values in found]
    full = {"setting": [path for path, _ in found]}
    full |= {name: [values[i] for _, values in found] for i, name in enumerate(names)}
    return GridTable(
        "differences", "In which settings they differ", ["Setting", *names], rows, full, folded=True
    )


def failure_groups(comparison: Comparison, exactly: bool = False) -> list[Group]:
    """Failed rows, those that failed alike together; the largest group first.

    Args:
        comparison: what was read.
        exactly: whether only rows of one point, for reasons that are the same to the letter, are
            alike; then groups are in the order of their rows.
    """
    groups: dict[tuple, Group] = {}
    for line in comparison.rows[comparison.rows["state"] == "failed"].to_dict("records"):
        reason = str(line["reason"])
        alike = (line["source"], line["kind"], re.sub(r"\d+", "0", reason))
        alike = (line["source"], line["kind"], line["point"], reason) if exactly else alike
        group = groups.setdefault(alike, Group(line["source"], line["kind"], reason, [], [], []))
        group.rows.append(int(line["row"]))
        group.points.append(int(line["point"]))
        group.seeds.append(int(line["seed"]))
    found = list(groups.values())
    return found if exactly else sorted(found, key=lambda group: (-len(group.rows), group.rows))


def failures_table(comparison: Comparison) -> GridTable:
    """What failed and why: point by point, or in groups where there are many."""
    several = len(comparison.sources) > 1
    groups = failure_groups(comparison, exactly=True)
    groups = groups if len(groups) <= _EACH_UP_TO else failure_groups(comparison)
    rows = []
    for group in groups:
        points = sorted(set(group.points))
        settings = [setting_text(comparison, point, comparison.axes) for point in points]
        text = "; ".join(settings[:3]) + f"; and {len(settings) - 3} more" * (len(settings) > 3)
        rows.append(
            [
                *([words(group.source)] if several else []),
                Entry(ranges(group.rows), group.rows[0], number=len(group.rows) == 1),
                words(text),
                Entry(ranges(group.seeds), min(group.seeds), number=len(group.seeds) == 1),
                words(KINDS.get(group.kind, group.kind.replace("_", " "))),
                words(group.reason),
            ]
        )
    failed = comparison.rows[comparison.rows["state"] == "failed"]
    names = ("source", "row", "point", "seed", "kind", "reason", "where")
    full = {name: list(failed[name]) for name in names}
    full["setting"] = [setting_text(comparison, p, comparison.axes) for p in failed["point"]]
    head = ["Folder"] * several + ["Rows", "Settings", "Seeds", "What", "Why"]
    return GridTable("failures", "What failed and why", head, rows, full)


def ranges(numbers: Iterable[int]) -> str:
    """Whole numbers in short, e.g. `0–3, 7`."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}–{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)
