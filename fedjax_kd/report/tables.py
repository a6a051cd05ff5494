"""Reads the files of a results folder, checked for what a report needs of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from fedjax_kd.report.errors import ReportError

FORMATS = (1,)

Frame = Any  # a pandas frame or series, whose stubs cannot say what a column holds


def read_manifest(folder: Path, methods: tuple[str, ...]) -> dict[str, Any]:
    """The manifest of a finished study.

    Args:
        folder: the results folder.
        methods: those that a report can be made of.

    Raises:
        ReportError: there is no manifest, it cannot be read, or it is of an unfinished study or one
            in a format or of a method that is not known.
    """
    if not folder.is_dir():
        raise ReportError(f"{folder}: there is no such results folder")
    path = folder / "manifest.json"
    if not path.is_file():
        raise ReportError(f"{path}: not found, so {folder} is not a results folder")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ReportError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(manifest, dict):
        raise ReportError(f"{path}: must hold one JSON object, holds a {type(manifest).__name__}")
    for key, allowed in (("format", FORMATS), ("method", methods), ("status", ("complete",))):
        value = manifest.get(key)
        if value in allowed and not isinstance(value, bool):
            continue
        wanted = ", ".join(repr(each) for each in allowed)
        if key == "status":
            raise ReportError(
                f"{path}: the study is not finished: status is {value!r}, must be {wanted}"
            )
        raise ReportError(f"{path}: {key} is {value!r}, this report knows {wanted}")
    return manifest


def read_tables(folder: Path, columns: Mapping[str, tuple[str, ...]]) -> dict[str, Frame]:
    """Every parquet table that `columns` names; one that the folder lacks is an empty frame.

    Args:
        folder: the results folder.
        columns: of each table the columns that it must have.

    Returns:
        Frames by name, of the first study point only.

    Raises:
        ReportError: a table cannot be read or lacks a column.
    """
    return {name: _read_table(folder / f"{name}.parquet", columns[name]) for name in columns}


def _read_table(path: Path, columns: tuple[str, ...]) -> Frame:
    if not path.is_file():
        return pd.DataFrame({column: [] for column in columns})
    try:
        frame: Frame = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise ReportError(f"{path}: cannot be read as parquet ({error})") from error
    missing = [column for column in columns if column not in frame.columns]
    if missing and len(frame):
        raise ReportError(
            f"{path}: lacks the column {missing[0]!r}; there are {', '.join(map(str, frame))}"
        )
    frame = frame.reindex(columns=[*frame.columns, *missing])
    if "point" in frame.columns and len(frame):
        frame = frame[frame["point"] == frame["point"].min()]
    return frame


def read_summary(path: Path, keys: tuple[str, ...]) -> Frame:
    """The summary, indexed by the columns that name its rows; empty where there is no such file.

    Args:
        path: the CSV file.
        keys: the columns whose values, together, name one row.

    Raises:
        ReportError: it cannot be read, lacks one of the columns, or names something twice.
    """
    if not path.is_file() or path.stat().st_size == 0:
        return pd.DataFrame({key: [] for key in keys}).set_index(list(keys))
    try:
        frame: Frame = pd.read_csv(path, dtype=dict.fromkeys(keys, str))
    except (OSError, ValueError) as error:
        raise ReportError(f"{path}: cannot be read as CSV ({error})") from error
    for key in keys:
        if key not in frame.columns:
            raise ReportError(f"{path}: lacks the column {key!r}; there are {', '.join(frame)}")
    twice = frame[frame.duplicated(list(keys))]
    if len(twice):
        named = ", ".join(repr(str(twice.iloc[0][key])) for key in keys)
        raise ReportError(
            f"{path}: names the {' and '.join(keys)} {named} twice; each must have one row"
        )
    for key in keys:
        frame[key] = frame[key].astype(str)
    return frame.set_index(list(keys) if len(keys) > 1 else next(iter(keys)))


def setting_at(settings: Any, path: str, default: Any = None) -> Any:
    """The resolved setting at a dotted path, e.g. `objective.delay_weight` or `layers.0`."""
    value = settings
    for name in path.split("."):
        if isinstance(value, list) and name.isdecimal() and int(name) < len(value):
            value = value[int(name)]
        elif isinstance(value, dict) and name in value:
            value = value[name]
        else:
            return default
    return value
