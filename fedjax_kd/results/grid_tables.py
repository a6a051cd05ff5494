"""One table of a whole grid: those of its batches, with the settings that the grid sweeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from fedjax_kd.results.errors import ResultsError
from fedjax_kd.results.row_parts import ROWS
from fedjax_kd.results.status import (
    ADDRESS,
    Batch,
    holder_of_rows,
    left_out,
    read_batches,
    read_failures,
    read_rows,
    row_states,
)
from fedjax_kd.results.tables import (
    METRICS,
    NO_METRICS,
    no_such_table,
    read_table,
    table_names,
    text_as_categories,
)

PREFIX = "setting."  # of a swept setting with the name of a column of the table
BATCH = "batch"

Frame = Any  # a pandas frame, whose stubs cannot say what a selection returns


def read_grid(folder: Path, table: str) -> pd.DataFrame:
    """Reads one table of the grid in a folder, as far as its batches have come.

    Args:
      folder: of the grid.
      table: its name.

    Returns:
      The rows of all batches, without those that failed: `row`, the columns of the table, then
      the settings that the grid sweeps. Where the table has no points, or no seeds, nothing can be
      merged, and it gets the column `batch` instead.

    Raises:
      ResultsError: there is no such table in any batch.
    """
    batches = read_batches(folder)
    if table == ROWS:
        return row_states(folder, batches)
    rows = read_rows(folder)
    holders, failed = holder_of_rows(batches), read_failures(folder)
    tables = []
    for batch in batches:
        mine = [row for row in batch.rows if holders[row] is batch and row not in failed]
        found = _table_of(batch, table) if mine else None
        if found is not None:
            tables.append(_of_rows(found, batch, mine, rows))
    if not tables:
        known = sorted({name for batch in batches for name in table_names(batch.path)})
        if table != METRICS:
            raise ResultsError(no_such_table(folder, table, known or [METRICS]))
        tables.append(NO_METRICS.empty_table())
    joined = pa.concat_tables(
        [each.replace_schema_metadata(None) for each in tables], promote_options="permissive"
    )
    return with_settings(text_as_categories(joined), rows)


def with_settings(frame: Frame, rows: Frame) -> pd.DataFrame:
    """Adds the number of the row in front and, at the end, the settings of the point.

    Args:
      frame: with columns `point` and `seed`, or else it is returned as it is.
      rows: as `read_rows` returns them.
    """
    if not {"point", "seed"} <= set(frame.columns):
        return frame
    place = _numbers(rows, rows).get_indexer(_numbers(frame, rows))
    known = place >= 0
    if not known.all():
        left_out(f"{int((~known).sum())} lines of points that the grid does not have are left out")
        frame, place = frame[known].reset_index(drop=True), place[known]
    settings = {}
    for name in rows.columns:
        if name in ADDRESS:
            continue
        values = rows[name]
        values = values.astype("category") if values.dtype == "str" else values
        own = name in frame.columns or name == "row"
        settings[f"{PREFIX}{name}" if own else name] = values.array.take(place)
    numbers = pd.DataFrame({"row": rows["row"].to_numpy()[place]}, index=frame.index)
    return pd.concat([numbers, frame, pd.DataFrame(settings, index=frame.index)], axis=1)


def _numbers(frame: Frame | pa.Table, rows: Frame) -> pd.Index:
    """One number for each pair of a point and a seed, the same in every frame."""
    span = int(rows["seed"].max()) + 1 if len(rows) else 1
    point, seed = (np.asarray(frame[name], np.int64) for name in ("point", "seed"))
    return pd.Index(np.where((seed >= 0) & (seed < span), point * span + seed, -1))


def _table_of(batch: Batch, table: str) -> pa.Table | None:
    """A batch's table; None where it has none, or one that cannot be read."""
    try:
        found = read_table(batch.path, table, batch.manifest, batch.standing)
    except ResultsError as error:
        damaged = table == METRICS or table in table_names(batch.path)
        if damaged:
            left_out(f"{error}; the batch is left out")
        return None
    return found if isinstance(found, pa.Table) else pa.Table.from_pandas(found)


def _of_rows(table: pa.Table, batch: Batch, mine: list[int], rows: Frame) -> pa.Table:
    """The lines of a batch's table that belong to the rows that the batch speaks for."""
    own: Frame = rows[rows["row"].isin(mine)]
    names = table.column_names
    points = own["point"].unique()
    if "point" not in names and "seed" in names and len(points) == 1:
        table = table.add_column(0, "point", pa.array(np.full(table.num_rows, points[0])))
        names = table.column_names
    if "point" not in names or "seed" not in names:
        return table.add_column(0, BATCH, pa.array([batch.path.name] * table.num_rows))
    return table.filter(pa.array(_numbers(table, rows).isin(_numbers(own, rows))))
