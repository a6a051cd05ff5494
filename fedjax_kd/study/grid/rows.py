"""From a grid to its rows: one set of settings for each point, and one row for each of its seeds.

A point whose settings are refused keeps its rows, with the reason: they fail by themselves and do
not stop the others. Settings are read and checked once for each point, never for each row.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fedjax_kd.study.catalog import require_source
from fedjax_kd.study.check import check_study
from fedjax_kd.study.grid.settings import STUDY, Grid
from fedjax_kd.study.load import changed, settings_from_dict
from fedjax_kd.study.problems import SettingsError
from fedjax_kd.study.studies import Study

_OPENING = "settings"


@dataclass(frozen=True, eq=False)
class Point:
    """A combination of settings, without its seed.

    Attributes:
        index: its number in the grid.
        changes: setting -> value, of the settings that the grid sweeps.
        settings: with all seeds of the grid; None if they are refused.
        problem: why they are refused; None if they are not.
        kind: of the problem: `settings`, or `data` for a data set that is not on this machine.
    """

    index: int
    changes: dict[str, Any]
    settings: Study | None
    problem: str | None = None
    kind: Literal["settings", "data"] = "settings"


@dataclass(frozen=True, eq=False)
class Row:
    """A point with one seed.

    Attributes:
        index: the row's number.
        seed: of the row.
        of: the point, which all its rows share.
    """

    index: int
    seed: int
    of: Point

    @property
    def point(self) -> int:
        """The number of the point."""
        return self.of.index

    @property
    def changes(self) -> dict[str, Any]:
        """Setting -> value, of the settings that the grid sweeps."""
        return self.of.changes

    @property
    def problem(self) -> str | None:
        """Why the row's settings are refused; None if they are not."""
        return self.of.problem

    @property
    def settings(self) -> Study | None:
        """The row's settings, with its seed alone; None if they are refused."""
        if self.of.settings is None:
            return None
        return dataclasses.replace(self.of.settings, seeds=(self.seed,))


def rows_of(grid: Grid, data_dir: Path | None = None) -> list[Row]:
    """The rows of a grid, in the order of their numbers.

    Args:
        grid: as `load_grid` gives it.
        data_dir: where prepared data sets are; None for the default.

    Raises:
        SettingsError: if the settings of every row are refused; the problems are the first point's.
    """
    points = points_of_grid(grid, data_dir)
    refused = [point for point in points if point.problem is not None]
    if len(refused) == len(points):
        first = refused[0]
        changes = ", ".join(f"{path} {value}" for path, value in first.changes.items())
        every = f"all {len(points)} points are refused, the first ({changes})"
        raise SettingsError(
            str(first.problem).splitlines(), every if len(points) > 1 else "the grid's only point"
        )
    n_seeds = len(grid.seeds)
    return [
        Row(point.index * n_seeds + place, seed, point)
        for point in points
        for place, seed in enumerate(grid.seeds)
    ]


def points_of_grid(grid: Grid, data_dir: Path | None = None) -> list[Point]:
    """The points of a grid, each with its settings or with what is wrong with them."""
    missing: dict[str, str | None] = {}
    return [
        _point(index, said, changes, grid.seeds, data_dir, missing)
        for index, (said, changes) in enumerate(_combinations(grid))
    ]


def _combinations(grid: Grid) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """What each point's file would say but for its changes, and the changes."""
    for base in grid.bases:
        named = {STUDY: base.name} if len(grid.bases) > 1 else {}
        for steps in itertools.product(*(axis.steps for axis in grid.axes)):
            changes: dict[str, Any] = dict(named)
            for step in steps:
                changes.update(step)
            yield base.said, changes


def _point(
    index: int,
    said: dict[str, Any],
    changes: dict[str, Any],
    seeds: tuple[int, ...],
    data_dir: Path | None,
    missing: dict[str, str | None],
) -> Point:
    own = {path: value for path, value in changes.items() if path != STUDY}
    try:
        merged = changed(said, {**own, "seeds": list(seeds)}, _OPENING)
        settings = settings_from_dict(merged, where=_OPENING)
        check_study(settings, _OPENING, in_grid=True)
    except SettingsError as error:
        return Point(index, changes, None, "\n".join(error.problems))
    for path, source in sources_of(settings):
        if source not in missing:
            missing[source] = _why_missing(source, data_dir)
        why = missing[source]
        if why is not None:
            return Point(index, changes, None, why.replace("data.source:", f"{path}:", 1), "data")
    return Point(index, changes, settings)


def sources_of(settings: Study) -> Iterator[tuple[str, str]]:
    """The data sets that a study reads, with the paths of their settings."""
    yield "data.source", settings.data.source
    public = getattr(settings.data, "public", None)
    if public is not None and public.kind == "source":
        yield "data.public.source", public.source


def _why_missing(source: str, data_dir: Path | None) -> str | None:
    from fedjax_kd.data import DataSetMissing

    try:
        require_source(source, data_dir)
    except DataSetMissing as error:
        return str(error)
    return None
