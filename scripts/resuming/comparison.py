"""Whether two folders hold the same results, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from fedjax_kd.study.checkpoint_files import read_about, read_leaves

TIMED = ("timings.parquet",)  # wall-clock seconds differ from run to run


def differences(whole: Path, killed: Path) -> list[str]:
    """One line for each thing in which the results of two runs differ; none if they are equal.

    Tables are compared by the names and dtypes of their columns and by the bytes of their values,
    and every array of the last checkpoint of every part by shape, dtype and bytes.

    Args:
      whole: the folder of the run in peace.
      killed: the folder of the other.
    """
    return [*_of_tables(whole, killed), *_of_checkpoints(whole, killed)]


def table_names(folder: Path) -> list[str]:
    """The tables that are compared."""
    found = [*folder.glob("*.parquet"), *folder.glob("*.csv")]
    return sorted(path.name for path in found if path.name not in TIMED)


def parts_of(folder: Path) -> dict[str, Path]:
    """Part -> its last checkpoint."""
    found = {}
    for part in sorted((folder / "checkpoints").iterdir()):
        steps = [step for step in part.iterdir() if step.name.isdecimal()] if part.is_dir() else []
        if steps:
            found[part.name] = max(steps, key=lambda step: int(step.name))
    return found


def _of_tables(whole: Path, killed: Path) -> Iterator[str]:
    names = table_names(whole)
    if not names:
        yield f"{whole} holds no tables"
    if names != table_names(killed):
        yield f"tables: {names} in one, {table_names(killed)} in the other"
        return
    for name in names:
        yield from (
            f"{name}: {text}" for text in _of_frames(_read(whole / name), _read(killed / name))
        )


def _of_frames(one: pd.DataFrame, other: pd.DataFrame) -> Iterator[str]:
    if one.shape != other.shape or list(one.columns) != list(other.columns):
        yield f"{one.shape} {list(one.columns)} in one, {other.shape} {list(other.columns)}"
        return
    for column in one.columns:
        left, right = one[column], other[column]
        if left.dtype != right.dtype:
            yield f"{column}: {left.dtype} in one, {right.dtype} in the other"
        elif not _same(left.to_numpy(), right.to_numpy()):
            yield f"{column}: values differ"


def _of_checkpoints(whole: Path, killed: Path) -> Iterator[str]:
    one, other = parts_of(whole), parts_of(killed)
    steps = {name: path.name for name, path in one.items()}
    if not steps:
        yield f"{whole} holds no checkpoints"
    if steps != {name: path.name for name, path in other.items()}:
        yield f"checkpoints: {steps} in one, {[str(path) for path in other.values()]} in the other"
        return
    for name in one:
        left, right = arrays_of(one[name]), arrays_of(other[name])
        if left.keys() != right.keys():
            yield f"checkpoint of {name}: other arrays"
        yield from (
            f"checkpoint of {name}: {path} differs"
            for path in left.keys() & right.keys()
            if not _same(left[path], right[path])
        )


def arrays_of(step: Path) -> dict[str, np.ndarray]:
    """The arrays of one checkpoint by their paths."""
    return {name: leaf.numbers for name, leaf in read_leaves(step, read_about(step)).items()}


def _same(one: np.ndarray, other: np.ndarray) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    if one.dtype == object:
        return bool(pd.Series(one).equals(pd.Series(other)))
    return one.tobytes() == other.tobytes()


def _read(path: Path) -> pd.DataFrame:
    return pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, dtype=str)
