"""One table of one run, whether the run is finished, under way or was killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from fedjax_kd.results.errors import ResultsError
from fedjax_kd.results.folders import enumeration, meant, read_manifest
from fedjax_kd.results.row_parts import KEYS, ROWS, read_under_way
from fedjax_kd.results.status import Standing, left_out, run_standing

METRICS = "metrics"
ATTEMPTS = 3  # at reading what a running study replaces in the meantime
NO_METRICS = pa.schema(
    [
        *((name, pa.int64()) for name in ("point", "seed", "round")),
        *((name, pa.string()) for name in ("scope", "metric")),
        ("value", pa.float64()),
    ]
)


def table_names(folder: Path) -> list[str]:
    """Names of the tables that a run has, without `rows`, which every run has."""
    files = [*folder.glob("*.parquet"), *folder.glob("*.csv")]
    names = {path.stem for path in files if not path.name.startswith(".")}
    under_way = {METRICS} if (folder / ROWS).is_dir() else set()
    return sorted(names | under_way, key=lambda name: (name != METRICS, name))


def read_table(
    folder: Path, table: str, manifest: dict[str, Any], standing: Standing
) -> pd.DataFrame | pa.Table:
    """Reads one table of a run.

    Args:
      folder: of the run.
      table: its name.
      manifest: of the run.
      standing: what became of the run.

    Raises:
      ResultsError: there is no such table, or it cannot be read.
    """
    if table == ROWS:
        return run_rows(manifest, standing)
    if table == METRICS:
        return _metrics(folder, standing)
    for suffix, read in ((".parquet", _parquet), (".csv", _csv)):
        path = folder / f"{table}{suffix}"
        if path.is_file():
            return read(path)
    raise ResultsError(no_such_table(folder, table, table_names(folder), standing))


def no_such_table(
    folder: Path, table: str, names: list[str], standing: Standing | None = None
) -> str:
    """What to say to somebody who asks for a table that is not there."""
    names = [*names, ROWS]
    text = f"{folder} has no table {table!r}{meant(table, names)}; it has {enumeration(names, 20)}"
    if standing is not None and standing.state != "complete":
        text += f". The study is {standing.state}, and some tables come when it is done"
    return text


def run_rows(manifest: dict[str, Any], standing: Standing) -> pd.DataFrame:
    """The rows of a run by itself, one for each seed: `row, point, seed, state`."""
    seeds = manifest.get("seeds") or (manifest.get("settings") or {}).get("seeds") or []
    states = {"complete": "done", "running": "running", "failed": "failed"}
    state = states.get(standing.state, "pending")
    seeds = pd.array([int(seed) for seed in seeds], dtype="int64")
    rows = pd.DataFrame({"row": range(len(seeds)), "point": 0, "seed": seeds})
    return rows.assign(state=state, reason=standing.reason)


def text_as_categories(table: pa.Table) -> pd.DataFrame:
    """A frame whose columns of text are categoricals, which take a byte or two for each row."""
    for place, field in enumerate(table.schema):
        if pa.types.is_string(field.type) or pa.types.is_large_string(field.type):
            encoded = table.column(place).dictionary_encode()
            table = table.set_column(place, field.name, encoded)
    return table.replace_schema_metadata(None).unify_dictionaries().to_pandas()


def read_run(folder: Path, table: str) -> pd.DataFrame:
    """Reads one table of the run in a folder.

    Raises:
      ResultsError: as `read_table` does, or the folder's manifest cannot be read.
    """
    manifest = read_manifest(folder)
    standing = run_standing(folder, manifest)
    found = read_table(folder, table, manifest, standing)
    return text_as_categories(found) if isinstance(found, pa.Table) else found


def _metrics(folder: Path, standing: Standing) -> pa.Table:
    for attempt in range(ATTEMPTS):
        try:
            return _metrics_now(folder, standing)
        except FileNotFoundError:  # a running study has replaced it in the meantime
            if attempt == ATTEMPTS - 1:
                raise ResultsError(
                    f"{folder}: files vanish while they are read; read it again"
                ) from None
    raise AssertionError("unreachable")


def _metrics_now(folder: Path, standing: Standing) -> pa.Table:
    path = folder / f"{METRICS}.parquet"
    under_way, twice = [], False
    if standing.state != "complete" and (folder / ROWS).is_dir():
        under_way, twice = read_under_way(folder)
    whole = path.is_file()
    if not whole and standing.state == "complete":
        raise ResultsError(no_such_table(folder, METRICS, table_names(folder)))
    tables = list(under_way)
    if whole:
        try:
            tables.insert(0, _parquet(path))
        except ResultsError as error:
            if not under_way:
                raise
            left_out(str(error))
    if not tables:
        return NO_METRICS.empty_table()
    joined = pa.concat_tables(tables, promote_options="permissive")
    if not twice and len(tables) in (1, len(under_way)):
        return joined
    again = text_as_categories(joined).duplicated(list(KEYS))
    return joined.filter(pa.array(~again.to_numpy()))


def _parquet(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ResultsError(f"{path} cannot be read: {error}") from error


def _csv(path: Path) -> pa.Table:
    try:
        frame = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise ResultsError(f"{path} cannot be read: {error}") from error
    return pa.Table.from_pandas(frame, preserve_index=False)
