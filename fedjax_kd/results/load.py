"""Results as frames: of a run or a grid, of several of them, finished or not."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from fedjax_kd.results.errors import ResultsError
from fedjax_kd.results.folders import kind_of
from fedjax_kd.results.grid_tables import PREFIX, read_grid
from fedjax_kd.results.tables import METRICS, read_run

STUDY = "study"


def load_results(
    folder: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], table: str = METRICS
) -> pd.DataFrame:
    """Reads a table of results into a frame.

        import fedjax_kd
        metrics = fedjax_kd.load_results("results/grid").query("metric == 'accuracy_personal'")
        metrics.pivot_table("value", "round", ["training.learning_rate", "scope"]).plot()

    A run or a grid may be finished, under way or killed: what has been written down by then is
    read, and a damaged file among it is left out with a `ResultsWarning`.

    `metrics` is in long form, with the columns `point, seed, round, scope, metric, value`; scopes
    are contestants of a study in rounds, or stages and policies of a DT-KD study. Of a grid, a
    table also has `row` in front and, at the end, one column for each setting that the grid sweeps,
    such as `training.learning_rate`; lists are JSON text, and a setting that is called like a
    column of the table becomes `setting.NAME`. Rows of the grid that failed are left out; the table
    `rows` says which they are, and why.

    Columns of text are categoricals: a metric's name then takes a byte in each row, not fifty.

    Args:
      folder: a folder that `run` or `sweep` has filled; or several of them, and the frame gets a
        first column `study`: the folders' names, with as much of their paths as tells them apart.
      table: `metrics`, or another table that the study has, such as `ledger`, `decisions`,
        `clients`, `special`, `mixing`, `partition`, `timings` or `summary`; `rows` has a line for
        each row of the grid, or for each seed of the run, and says what became of it.

    Raises:
      ResultsError: the folder holds no results, or not that table; says what is there instead.
    """
    if isinstance(folder, str | os.PathLike):
        return _read(Path(folder), table)
    paths = [Path(each) for each in folder]
    if not paths:
        raise ResultsError("folder: found an empty list; allowed: at least one folder")
    frames = [_read(path, table) for path in paths]
    for place, name in enumerate(_names(paths)):
        frame = frames[place].rename(columns={STUDY: f"{PREFIX}{STUDY}"})
        frame.insert(0, STUDY, pd.Categorical([name] * len(frame), [name]))
        frames[place] = frame
    return _stacked(frames)


def _read(path: Path, table: str) -> pd.DataFrame:
    return (read_grid if kind_of(path) == "grid" else read_run)(path, table)


def _names(paths: Sequence[Path]) -> list[str]:
    """The ends of the paths, as long as it takes to tell them apart."""
    parts = [path.resolve().parts for path in paths]
    twice = [str(path) for path, each in zip(paths, parts, strict=True) if parts.count(each) > 1]
    if twice:
        raise ResultsError(f"folder: {twice[0]} is named twice; each must be named once")
    length = 1
    while len({each[-length:] for each in parts}) < len(parts):
        length += 1
    return ["/".join(each[-length:]) for each in parts]


def _stacked(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Frames below each other; categoricals stay what they are."""
    categories: dict[str, dict[str, None]] = {}
    for frame in frames:
        for name in frame.select_dtypes("category").columns:
            categories.setdefault(name, {}).update(dict.fromkeys(frame[name].cat.categories))
    types = {name: pd.CategoricalDtype(list(values)) for name, values in categories.items()}
    same = [
        frame.astype({name: each for name, each in types.items() if name in frame.columns})
        for frame in frames
    ]
    return pd.concat(same, ignore_index=True)
