"""The plan of a grid: which rows share a program, and which of them run side by side.

The plan depends on the rows alone, in the order of their numbers, so every process that looks at
the same rows makes the same plan.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from fedjax_kd.study.grid.rows import Row
from fedjax_kd.study.grid.stackable import group_key
from fedjax_kd.study.studies import Study

MOST_WIDE = 64
"""Most rows of a batch: past that a device gains little, and an interruption costs more."""


class Batch(NamedTuple):
    """Rows that run side by side.

    Attributes:
        group: key of the group.
        rows: in rising order.
    """

    group: str
    rows: tuple[Row, ...]

    @property
    def numbers(self) -> tuple[int, ...]:
        """The rows' numbers."""
        return tuple(row.index for row in self.rows)


class Group(NamedTuple):
    """Rows that one compiled program can serve.

    Attributes:
        key: that their settings share.
        rows: in rising order.
        fixed: swept setting -> value, of those that all rows of the group share.
    """

    key: str
    rows: tuple[Row, ...]
    fixed: Mapping[str, Any]

    @property
    def first(self) -> Study:
        """The settings of the first row: what is static in them holds for all."""
        settings = self.rows[0].settings
        assert settings is not None  # `groups_of` leaves refused rows out
        return settings


class Plan(NamedTuple):
    """What there is to run.

    Attributes:
        groups: in the order of their first rows.
        batches: group after group.
    """

    groups: tuple[Group, ...]
    batches: tuple[Batch, ...]


def groups_of(rows: Iterable[Row]) -> tuple[Group, ...]:
    """Divides rows by what is static in their settings; rows with a problem are left out."""
    keys: dict[int, str] = {}
    members: dict[str, list[Row]] = {}
    for row in rows:
        settings = row.of.settings
        if settings is None:
            continue
        if row.point not in keys:
            keys[row.point] = group_key(settings)
        members.setdefault(keys[row.point], []).append(row)
    return tuple(Group(key, tuple(rows), _fixed(rows)) for key, rows in members.items())


def plan(
    rows: Iterable[Row],
    width: int | Callable[[Group], int] = MOST_WIDE,
    skip: Callable[[int], bool] = lambda index: False,
) -> Plan:
    """Plans the rows that are neither refused nor skipped.

    Args:
        rows: in rising order.
        width: most rows of a batch, for all groups or asked for each.
        skip: whether a row's number is left out, because it is done, failed or taken.

    Returns:
        Groups, and batches that differ by at most one row in length within a group.
    """
    groups = groups_of(row for row in rows if not skip(row.index))
    batches = []
    for group in groups:
        limit = width if isinstance(width, int) else width(group)
        batches += [Batch(group.key, part) for part in balanced(group.rows, limit)]
    return Plan(groups, tuple(batches))


def balanced(rows: Sequence[Row], width: int) -> list[tuple[Row, ...]]:
    """Cuts rows into as few parts of at most `width` as there have to be, equally long but for one.

    Args:
        rows: in rising order.
        width: at least 1.
    """
    if width < 1:
        raise ValueError(f"width: found {width}; allowed: at least 1")
    count = -(-len(rows) // width)
    bounds = [place * len(rows) // count for place in range(count + 1)] if count else [0]
    return [tuple(rows[a:b]) for a, b in pairwise(bounds)]


def _fixed(rows: Sequence[Row]) -> dict[str, Any]:
    """The swept settings that have one value in all of these rows."""
    first = rows[0].changes
    points = {row.point: row.changes for row in rows}.values()
    return {
        path: value
        for path, value in first.items()
        if all(path in changes and changes[path] == value for changes in points)
    }
