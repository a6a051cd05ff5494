"""What a grid file may say: a study or several, what to change in it, over which axes and seeds.

    title: Learning rates of two methods
    study: family/digits.yaml          # beside the grid file; a section; or a list, an axis more
    set: {rounds: 10}                  # on top of the study, for every row
    grid:                              # the product of its items
      - product: {contestants: [[local], [fd]], training.learning_rate: [0.01, 0.1]}
      - zip: {data.partition.alpha: [0.1, 1.0], data.users: [10, 20]}
      - list: [{rounds: 5}, {rounds: 7, evaluation.every: 7}]
    seeds: 8                           # 0 to 7, or a list of them; by default the study's own

Keys of `set` and of axes are dotted paths of settings, as `--set` has them. A `grid` may also be
one section, which is the product of its axes.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from fedjax_kd.study.grid.axes import Axis, axes_of, path_problems, repeated
from fedjax_kd.study.load import changed, completed, read_section
from fedjax_kd.study.problems import SettingsError, problems_of, shown
from fedjax_kd.study.settings import Count, Seed
from fedjax_kd.study.studies import STUDIES
from fedjax_kd.study.yaml_text import YamlError, read_yaml

MOST_ROWS = 1_000_000
STUDY = "study"  # the name of the axis of studies
_LEAST = "`study: FILE`, the settings that the grid starts from"

_Section = dict[str, Any]
_Several = Annotated[tuple[str | _Section, ...], Field(min_length=1)]
_Seeds = Annotated[tuple[Seed, ...], Field(min_length=1)]


@dataclass(config=ConfigDict(extra="forbid"), frozen=True)
class GridFile:
    """The keys of a grid file; 0 seeds stand for those of the study."""

    study: str | _Section | _Several
    title: str = ""
    set: _Section = Field(default_factory=dict)
    grid: _Section | tuple[_Section, ...] = Field(default_factory=dict)
    seeds: Count | _Seeds = Field(default=0)


class Base(NamedTuple):
    """A study that a grid starts from.

    Attributes:
        name: what the axis of studies calls it.
        said: its settings with `set` and every default in them, not yet validated.
    """

    name: str
    said: dict[str, Any]


class Grid(NamedTuple):
    """A grid whose rows can be numbered; whether each row is a valid study is not known yet.

    Row r is point r // n_seeds with the seed at place r % n_seeds. Of the points the last axis
    changes fastest, and the studies slowest.

    Attributes:
        title: for reports.
        bases: the studies, one or more.
        axes: what is changed in each of them.
        seeds: of every point.
    """

    title: str
    bases: tuple[Base, ...]
    axes: tuple[Axis, ...]
    seeds: tuple[int, ...]

    @property
    def swept(self) -> tuple[str, ...]:
        """The settings that differ between points, in the order of the file."""
        studies = (STUDY,) if len(self.bases) > 1 else ()
        return studies + tuple(path for axis in self.axes for path in axis.paths)

    @property
    def n_points(self) -> int:
        """Combinations of settings, without their seeds."""
        return len(self.bases) * math.prod(len(axis.steps) for axis in self.axes)

    @property
    def n_rows(self) -> int:
        """Points times seeds."""
        return self.n_points * len(self.seeds)


def load_grid(path: str | Path, overrides: Sequence[str] = ()) -> Grid:
    """Reads a grid file and the studies that it names.

    Args:
        path: a YAML file; studies are looked for beside it.
        overrides: `a.b.c=value` each, as further lines of `set`; `seeds=...` replaces the seeds.

    Raises:
        SettingsError: the grid cannot be used; the message lists every problem found.
    """
    said = read_section(path, _LEAST)
    return grid_from_dict(said, overrides, where=str(path), beside=Path(path).parent)


def grid_from_dict(
    said: Mapping[str, Any],
    overrides: Sequence[str] = (),
    where: str = "grid",
    beside: Path = Path(),
) -> Grid:
    """Like `load_grid`, for what is already in memory.

    Args:
        said: what the file says.
        overrides: as for `load_grid`.
        where: opens the message of an error.
        beside: the folder in which studies are looked for.
    """
    given = _validated(_with_overrides(said, overrides, where), where)
    bases = [_with_set(base, given, where) for base in _studies(given.study, beside, where)]
    axes, problems = axes_of(given.grid)
    roots = [STUDIES[base.said["method"]] for base in bases]
    for place, paths in [("set", given.set), *(("grid", axis.paths) for axis in axes)]:
        for path in paths:
            problems += [f"{place}.{line}" for line in path_problems(path, roots)]
    problems += repeated("study", [base.name for base in bases])
    if problems:
        raise SettingsError(problems, where)
    seeds = _seeds(said, given, bases, where)
    n_seeds = seeds if isinstance(seeds, int) else len(seeds)
    grid = Grid(given.title, tuple(bases), tuple(axes), ())
    if grid.n_points * n_seeds > MOST_ROWS:
        raise SettingsError(
            [
                f"grid: {grid.n_points:,} points with {n_seeds:,} seeds are "
                f"{grid.n_points * n_seeds:,} rows; allowed: at most {MOST_ROWS:,}"
            ],
            where,
        )
    return grid._replace(seeds=tuple(range(seeds)) if isinstance(seeds, int) else seeds)


def grid_to_dict(grid: Grid) -> dict[str, Any]:
    """What a file of the same grid says that needs no other file; `grid_from_dict` inverts it."""
    studies = [base.said for base in grid.bases]
    return {
        "title": grid.title,
        "study": studies[0]
        if len(studies) == 1
        else [{"name": b.name, **b.said} for b in grid.bases],
        "grid": [axis.to_dict() for axis in grid.axes],
        "seeds": list(grid.seeds),
    }


def grid_hash(grid: Grid) -> str:
    """16 hexadecimal digits that tell one grid from another; the title does not count."""
    identity = {key: value for key, value in grid_to_dict(grid).items() if key != "title"}
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def _with_overrides(
    said: Mapping[str, Any], overrides: Sequence[str], where: str
) -> dict[str, Any]:
    said, problems = dict(said), []
    for override in overrides:
        path, equals, text = override.partition("=")
        if not equals or not path.strip():
            problems.append(f"--set {override}: expected key=value, e.g. data.users=10")
            continue
        try:
            value = read_yaml(text)
        except YamlError as error:
            problems.append(f"--set {override}: {error}")
            continue
        if path == "seeds":
            said["seeds"] = value
        elif isinstance(said.get("set") or {}, dict):
            said["set"] = {**(said.get("set") or {}), path: value}
    if problems:
        raise SettingsError(problems, where)
    return said


def _validated(said: Mapping[str, Any], where: str) -> GridFile:
    said = {key: value for key, value in said.items() if value is not None or key == "study"}
    if said.get("seeds") == []:
        raise SettingsError(["seeds: found an empty list; allowed: a number, or seeds"], where)
    try:
        return TypeAdapter(GridFile).validate_python(said)
    except ValidationError as error:
        raise SettingsError(problems_of(error, GridFile), where) from None


def _studies(given: Any, beside: Path, where: str) -> list[Base]:
    """What each study says, named by its file, its `name` or its title."""
    several = given if isinstance(given, tuple) else (given,)
    bases = []
    for place, study in enumerate(several):
        if isinstance(study, str):
            try:
                bases.append(Base(study, read_section(beside / study)))
            except SettingsError as error:
                raise SettingsError([f"study: {line}" for line in error.problems], where) from None
        else:
            own = {key: value for key, value in study.items() if key != "name"}
            name = study.get("name") or study.get("title") or f"study {place}"
            bases.append(Base(str(name), own))
    return bases


def _with_set(base: Base, given: GridFile, where: str) -> Base:
    opens = f"{where}: {base.name}" if isinstance(given.study, tuple) else where
    said = changed(base.said, given.set, opens)
    return base._replace(said=completed(said, opens))


def _seeds(
    said: Mapping[str, Any], given: GridFile, bases: Sequence[Base], where: str
) -> int | tuple[int, ...]:
    seeds = given.seeds
    if said.get("seeds") is None:
        own = [base.said["seeds"] for base in bases]
        if any(other != own[0] for other in own):
            found = " and ".join(shown(list(each)) for each in own[:2])
            raise SettingsError(
                [f"seeds: missing, and the studies have {found}; allowed: seeds here"], where
            )
        seeds = _validated({"study": "", "seeds": own[0]}, where).seeds
    problems = repeated("seeds", seeds) if isinstance(seeds, tuple) else []
    if problems:
        raise SettingsError(problems, where)
    return seeds
