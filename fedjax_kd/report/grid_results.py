"""Grids and runs as one comparison reads them: numbered points, how rows stand, and tables."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from fedjax_kd.report.errors import ReportError
from fedjax_kd.report.grid_points import ABSENT, points_of_rows
from fedjax_kd.report.page_context import flat
from fedjax_kd.report.tables import Frame, setting_at
from fedjax_kd.results.errors import ResultsError, ResultsWarning
from fedjax_kd.results.folders import kind_of, read_json, read_manifest
from fedjax_kd.results.load import load_results
from fedjax_kd.results.status import ADDRESS, STATE_COLUMNS, read_batches, row_states

METRIC_COLUMNS = ("point", "seed", "round", "scope", "metric", "value")
CLIENT_COLUMNS = ("point", "seed", "scope", "user", "accuracy_personal", "accuracy_common")
RUN = "run"  # the axis that tells several folders apart


class Source(NamedTuple):
    """One folder that is compared."""

    folder: Path
    name: str  # the folder's, told apart from others of that name
    kind: str  # "grid" or "run"
    title: str
    methods: tuple[str, ...]
    rows: int
    studies: dict[str, dict[str, Any]]  # settings that rows start from, by the study's name

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the first study; most have one only."""
        return next(iter(self.studies.values()), {})


@dataclass(frozen=True)
class Comparison:
    """Everything a comparison is made from.

    Attributes:
        sources: the folders.
        axes: paths of the settings that differ from point to point; `run` first if there are
            several folders.
        points: one row per point, indexed by its number, one column per axis; `ABSENT` where a
            point has no such setting.
        rows: `source, row, point, seed, state, kind, reason, where`; points are numbered over all
            folders.
        metrics: `METRIC_COLUMNS`, of rows that are done.
        clients: `CLIENT_COLUMNS`, after the last round, of rows that are done.
        titles: what scopes are called.
        diverged: of rows that are done, `source, scope, reason` of contestants that came to no end.
        damaged: what could not be read and is left out.
    """

    sources: tuple[Source, ...]
    axes: tuple[str, ...]
    points: Frame
    rows: Frame
    metrics: Frame
    clients: Frame
    titles: dict[str, str]
    diverged: tuple[tuple[str, str, str], ...] = ()
    damaged: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The only folder's title, or those of all."""
        titles = list(dict.fromkeys(source.title or source.name for source in self.sources))
        return titles[0] if len(titles) == 1 else " and ".join(titles[:3])

    @property
    def methods(self) -> tuple[str, ...]:
        """All methods, in the order in which they come."""
        return tuple(dict.fromkeys(each for source in self.sources for each in source.methods))

    @property
    def seeds(self) -> list[int]:
        """All seeds of all rows."""
        return sorted({int(seed) for seed in self.rows["seed"]})

    def count(self, state: str) -> int:
        """How many rows are in a state."""
        return int((self.rows["state"] == state).sum())


class _Read(NamedTuple):
    """One folder: its rows' points are its own numbers, its tables are of rows that are done."""

    source: Source
    axes: tuple[str, ...]
    points: dict[int, dict[str, Any]]  # all settings of each
    rows: Frame
    metrics: Frame
    clients: Frame
    manifests: list[dict[str, Any]]


def read_comparison(folders: Sequence[Path]) -> Comparison:
    """Reads grids and runs.

    Args:
        folders: at least one; of several, each is a value of the axis `run`.

    Raises:
        ReportError: a folder holds neither a grid nor a run, is a batch of a grid, is named twice,
            or a file in it cannot be read.
    """
    paths = [Path(folder) for folder in folders]
    twice = {path.resolve() for path in paths}
    if len(twice) < len(paths):
        raise ReportError("the same folder is named twice; each must be named once")
    names = _names(paths)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always", ResultsWarning)
        try:
            read = [_read(path, name) for path, name in zip(paths, names, strict=True)]
        except ResultsError as error:
            raise ReportError(str(error)) from error
    damaged = [str(each.message) for each in told if issubclass(each.category, ResultsWarning)]
    axes = tuple(dict.fromkeys(axis for each in read for axis in each.axes))
    points, rows, metrics, clients = [], [], [], []
    for each in read:
        first = len(points)
        place = {point: first + index for index, point in enumerate(sorted(each.points))}
        for point in sorted(each.points):
            values = {axis: setting_at(each.points[point], axis, ABSENT) for axis in axes}
            points.append({RUN: each.source.name, **values})
        for frame, together in (
            (each.rows, rows),
            (each.metrics, metrics),
            (each.clients, clients),
        ):
            known = frame[frame["point"].isin(place)]
            together.append(known.assign(point=known["point"].map(place).astype("int64")))
    axes = ((RUN, *axes) if len(read) > 1 else axes) if len(points) > 1 else axes
    numbered = pd.DataFrame(
        {axis: pd.Series([p.get(axis) for p in points], dtype=object) for axis in axes}
    )
    return Comparison(
        sources=tuple(each.source for each in read),
        axes=axes,
        points=numbered.reindex(range(len(points))),
        rows=pd.concat(rows, ignore_index=True),
        metrics=_joined(metrics, METRIC_COLUMNS),
        clients=_joined(clients, CLIENT_COLUMNS),
        titles=_titles(manifest for each in read for manifest in each.manifests),
        diverged=tuple(_diverged(read)),
        damaged=tuple(dict.fromkeys(damaged)),
    )


def _read(folder: Path, name: str) -> _Read:
    if kind_of(folder) == "grid":
        return _read_grid(folder, name)
    manifest = read_manifest(folder)
    if manifest.get("kind") == "batch":
        raise ReportError(f"{folder} is one batch of a grid; name the grid, {folder.parent.parent}")
    return _read_run(folder, name, manifest)


def _read_run(folder: Path, name: str, manifest: dict[str, Any]) -> _Read:
    states: Frame = load_results(folder, "rows")
    settings = manifest.get("settings") or {}
    methods = (str(manifest.get("method") or settings.get("method") or ""),)
    title = str(manifest.get("title") or settings.get("title") or "")
    source = Source(folder, name, "run", title, methods, len(states), {"": settings})
    return _with_tables(source, (), {0: settings}, states, [manifest])


def _read_grid(folder: Path, name: str) -> _Read:
    grid = read_json(folder / "grid.json")
    batches = read_batches(folder)
    states: Frame = row_states(folder, batches)
    swept = tuple(c for c in states.columns if c not in (*ADDRESS, *STATE_COLUMNS))
    listed = [each for each in grid.get("studies") or [] if isinstance(each, dict)]
    studies = {str(each.get("name", "")): each.get("settings") or {} for each in listed}
    points = points_of_rows(states, swept, studies)
    read = {a: {json.dumps(setting_at(p, a, ABSENT)) for p in points.values()} for a in swept}
    axes = tuple(axis for axis in swept if len(read[axis]) > 1)  # what differs
    manifests = [each.manifest for each in batches]
    methods = dict.fromkeys(
        str(each["method"]) for each in [*studies.values(), *manifests] if each.get("method")
    )
    title = str(grid.get("title") or "")
    source = Source(folder, name, "grid", title, tuple(methods), len(states), studies)
    return _with_tables(source, axes, points, states, manifests)


def _with_tables(
    source: Source,
    axes: tuple[str, ...],
    points: dict[int, dict[str, Any]],
    states: Frame,
    manifests: list[dict[str, Any]],
) -> _Read:
    """Adds metrics and clients of the rows (by point and seed) that are done."""
    done = states.loc[states["state"] == "done", ["point", "seed"]].drop_duplicates()
    told = {name: states.get(name, "") for name in STATE_COLUMNS[:4]}
    rows = states[list(ADDRESS)].assign(source=source.name, **told)
    people = [_clients(_done_rows(source.folder, "clients", done), manifests)]
    people.append(_deciders(_done_rows(source.folder, "decisions", done)))
    return _Read(
        source=source,
        axes=axes,
        points=points,
        rows=rows,
        metrics=_joined([_done_rows(source.folder, "metrics", done)], METRIC_COLUMNS),
        clients=_joined(people, CLIENT_COLUMNS),
        manifests=manifests,
    )


def _done_rows(folder: Path, table: str, done: Frame) -> Frame:
    """A table's rows that are done; an empty frame where a side table is not there."""
    try:
        frame: Frame = load_results(folder, table)
    except ResultsError:
        if table == "metrics" and len(done):
            raise
        return pd.DataFrame()
    if not {"point", "seed"} <= set(frame.columns):
        return pd.DataFrame()
    frame = frame.merge(done, on=["point", "seed"])
    texts = frame.select_dtypes("category").columns
    return frame.astype(dict.fromkeys(texts, "str"))


def _clients(table: Frame, manifests: Sequence[dict[str, Any]]) -> Frame:
    """The users of a study in rounds, after the last round."""
    if table.empty or not {"contestant", "view"} <= set(table.columns):
        return pd.DataFrame()
    listed = [each for one in manifests for each in one.get("contestants") or []]
    main = {str(each["name"]): str((each.get("views") or [""])[0]) for each in listed}
    first = table["contestant"].map(main)
    other = table["contestant"] + "/" + table["view"]
    scope = table["contestant"].where((table["view"] == first) | first.isna(), other)
    names = {f"accuracy_{each}_last": f"accuracy_{each}" for each in ("personal", "common")}
    return table.rename(columns=names).assign(scope=scope)


def _deciders(table: Frame) -> Frame:
    """The users of a DT-KD study, policy by policy."""
    if table.empty or "policy" not in table.columns:
        return pd.DataFrame()
    return table.assign(scope="policy/" + table["policy"])


def _joined(frames: Sequence[Frame], columns: Sequence[str]) -> Frame:
    kept = [frame.reindex(columns=list(columns)) for frame in frames if len(frame)]
    if not kept:
        empty = pd.DataFrame({name: [] for name in columns})
        texts = {name: "str" for name in ("scope", "metric") if name in columns}
        return empty.astype({"point": "int64", "seed": "int64", **texts})
    return pd.concat(kept, ignore_index=True)


def _names(paths: Sequence[Path]) -> list[str]:
    """The folders' names, with as much of the path before as tells them apart."""
    parts = [path.resolve().parts for path in paths]
    deep = 1
    while len({each[-deep:] for each in parts}) < len(parts) and deep < 30:
        deep += 1
    return ["/".join(each[-deep:]) for each in parts]


def _titles(manifests: Any) -> dict[str, str]:
    return {
        str(each["name"]): str(each.get("title") or each["name"])
        for manifest in manifests
        for each in manifest.get("contestants") or []
    }


def _diverged(read: Sequence[_Read]) -> list[tuple[str, str, str]]:
    found = [
        (each.source.name, str(one.get("name", "")), str(one.get("reason", "")))
        for each in read
        if each.source.kind == "run"
        for one in each.manifests[0].get("diverged") or []
    ]
    return list(dict.fromkeys(found))


def differing_settings(sources: Sequence[Source]) -> list[tuple[str, list[str]]]:
    """Paths of the settings in which folders differ, with each folder's value."""
    tables = [dict(flat(source.settings)) for source in sources]
    paths = dict.fromkeys(path for table in tables for path in table)
    lines = [(path, [table.get(path, "–") for table in tables]) for path in paths]
    return [(path, values) for path, values in lines if len(set(values)) > 1]
