"""The settings of each point of a grid: those of its study, with its step of every axis in them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fedjax_kd.report.tables import Frame

ABSENT = "–"  # the value of a setting that a point does not have
STUDY = "study"  # the column that names the study a point starts from


def points_of_rows(
    rows: Frame, swept: Sequence[str], studies: Mapping[str, dict[str, Any]]
) -> dict[int, dict[str, Any]]:
    """All settings of every point, nested.

    Args:
        rows: of a grid: `point`, and one column per swept setting, blank where the point's step
            leaves the setting as its study has it.
        swept: those columns.
        studies: settings that points start from, by name; a point that names none of them starts
            from the first.

    Returns:
        By the point's number. A grid of several studies has the name as the setting `study`.
    """
    first = next(iter(studies.values()), {})
    points = {}
    for line in rows.drop_duplicates("point").to_dict("records"):
        settings = studies.get(str(line.get(STUDY)), first)
        for path in swept:
            if not _blank(line[path]):
                settings = with_setting(settings, path.split("."), _setting(line[path]))
        points[int(line["point"])] = settings
    return points


def with_setting(settings: Any, path: Sequence[str], value: Any) -> Any:
    """A copy of nested settings with another value at a path; what is given stays as it is.

    Items of lists are named by their numbers. Sections that are not there are made, and what has no
    such key gives way to one that has: the settings of a point that was refused are shown, too.
    """
    if not path:
        return value
    name, *rest = path
    if isinstance(settings, list) and name.isdecimal() and int(name) < len(settings):
        place = int(name)
        item = with_setting(settings[place], rest, value)
        return [*settings[:place], item, *settings[place + 1 :]]
    section = settings if isinstance(settings, dict) else {}
    return {**section, name: with_setting(section.get(name), rest, value)}


def _blank(value: Any) -> bool:
    return value is None or value == "" or (isinstance(value, float) and value != value)


def _setting(value: Any) -> Any:
    """A value of rows.csv: lists and sections are JSON text."""
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value
