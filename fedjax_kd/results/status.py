"""How far a run and the rows of a grid have come, as their files say; nobody keeps a second book.

A run's `manifest.json` says `running`, `complete`, `interrupted` or `failed`. A process that was
killed could not write that down: a folder that says `running` and that nobody holds was killed.

A row of a grid is failed if `failures/<row>.json` exists, else done if a complete batch holds it,
else running if somebody holds a batch that has it, else pending. A batch is complete once it is
settled, too: whatever failed in it has its failure file by then.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from fedjax_kd.results.errors import ResultsError, ResultsWarning
from fedjax_kd.results.folders import (
    BATCHES,
    GRID,
    MANIFEST,
    lock_held,
    read_json,
    read_manifest,
)

ROWS = "rows.csv"
FAILURES = "failures"
ROW_STATES = ("done", "failed", "running", "pending")
STATE_COLUMNS = ("state", "kind", "reason", "where", "batch")
ADDRESS = ("row", "point", "seed")

RunState = Literal["complete", "running", "interrupted", "failed", "killed"]
RowState = Literal["done", "failed", "running", "pending"]


class Standing(NamedTuple):
    """What became of a run.

    Attributes:
      state: `killed` is a run that stopped without a word.
      reason: why it stopped, empty for one that runs or is complete.
      signal: name of the signal that stopped it, e.g. `SIGTERM`; empty if none did.
      at: when it stopped, in ISO format; empty where nobody wrote that down.
    """

    state: RunState
    reason: str = ""
    signal: str = ""
    at: str = ""


class Batch(NamedTuple):
    """One folder of `batches/`.

    Attributes:
      path: the folder.
      rows: the rows that it holds, without those that failed once it is settled.
      standing: what became of it.
      manifest: what its manifest says; empty where it has none yet.
    """

    path: Path
    rows: tuple[int, ...]
    standing: Standing
    manifest: dict[str, Any]


def run_standing(folder: Path | str, manifest: dict[str, Any] | None = None) -> Standing:
    """Says what became of the run in a folder.

    Args:
      folder: the run's, or that of a batch.
      manifest: what its `manifest.json` says, if that has been read already.

    Raises:
      ResultsError: the manifest cannot be read, or says a status that is not known.
    """
    manifest = read_manifest(folder) if manifest is None else manifest
    status = manifest.get("status")
    settled = manifest.get("kind") != "batch" or manifest.get("settled") is True
    if status == "complete" and settled:
        return Standing("complete")
    if lock_held(folder):
        return Standing("running")
    if status in ("running", "complete"):
        return Standing("killed", "it stopped without recording a reason")
    if status not in ("interrupted", "failed"):
        allowed = "running, interrupted, failed or complete"
        raise ResultsError(
            f"{Path(folder) / MANIFEST}: status: found {status!r}; allowed: {allowed}"
        )
    stopped = manifest.get("stopped") or {}
    told = {key: str(stopped.get(key) or "") for key in ("reason", "signal", "at")}
    return Standing(status, **told)


def read_batches(folder: Path | str) -> list[Batch]:
    """The batches of a grid, in the order of their names; a damaged one is left out and warned of.

    Args:
      folder: the grid's.
    """
    found = []
    for path in sorted((Path(folder) / BATCHES).glob("*")):
        if not (path / MANIFEST).is_file():  # no folder, or one that is only just being made
            continue
        try:
            manifest = read_manifest(path)
            rows = tuple(int(row) for row in manifest["rows"])
            found.append(Batch(path, rows, run_standing(path, manifest), manifest))
        except (ResultsError, KeyError, TypeError, ValueError) as error:
            left_out(f"{path}: the batch is left out: {_told(error)}")
    return found


def read_rows(folder: Path | str) -> pd.DataFrame:
    """The rows of a grid: `row, point, seed` and one column per swept setting.

    Values that are lists or sections of the settings are JSON text.

    Args:
      folder: the grid's.

    Raises:
      ResultsError: `rows.csv` is missing, cannot be read or lacks a column.
    """
    path = Path(folder) / ROWS
    try:  # "none" and "null" are settings, not gaps
        rows = pd.read_csv(path, keep_default_na=False, na_values=[""])
    except FileNotFoundError:
        raise ResultsError(f"{path}: there is no such file") from None
    except (OSError, ValueError) as error:
        raise ResultsError(f"{path} cannot be read: {error}") from error
    lacking = [name for name in ADDRESS if name not in rows.columns]
    if lacking:
        raise ResultsError(f"{path}: lacks the column {lacking[0]!r}; has {', '.join(rows)}")
    return rows


def read_failures(folder: Path | str) -> dict[int, dict[str, str]]:
    """What failed: row -> `kind`, `reason` and `where`.

    Args:
      folder: the grid's.
    """
    found = {}
    for path in sorted((Path(folder) / FAILURES).glob("*.json")):
        if not path.stem.isdecimal():
            continue
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            each = {key: str(told.get(key) or "") for key in ("kind", "reason", "where")}
        except (OSError, ValueError, AttributeError) as error:  # that it is there counts
            left_out(f"{path}: the reason of the failure is left out: {error}")
            each = {"kind": "unknown", "reason": f"{path.name} cannot be read", "where": ""}
        found[int(path.stem)] = each
    return found


def row_states(folder: Path | str, batches: list[Batch] | None = None) -> pd.DataFrame:
    """One line per row of a grid: its settings, how it stands, and where.

    Args:
      folder: the grid's.
      batches: what `read_batches` found, if that has been asked already.

    Returns:
      The columns of `read_rows`, then `state` (of `ROW_STATES`), of failed rows `kind`, `reason`
      and `where`, and `batch`: the name of the folder in `batches/` that has the row, preferring
      one that is complete, then one that is running; empty if there is none.

    Raises:
      ResultsError: as `read_rows` does.
    """
    read_json(Path(folder) / GRID)
    rows = read_rows(folder)
    holders = holder_of_rows(read_batches(folder) if batches is None else batches)
    failures = read_failures(folder)
    lines = []
    for row in rows["row"].tolist():
        batch = holders.get(row)
        lines.append((*_state(row, batch, failures), batch.path.name if batch else ""))
    states = pd.DataFrame(lines, columns=list(STATE_COLUMNS), index=rows.index, dtype="str")
    return pd.concat([rows, states], axis=1)


def holder_of_rows(batches: list[Batch]) -> dict[int, Batch]:
    """The batch that speaks for each row: a complete one, or else a running one, or else the first.

    Args:
      batches: of one grid.
    """
    order = {"complete": 0, "running": 1}
    found: dict[int, Batch] = {}
    for batch in sorted(batches, key=lambda each: order.get(each.standing.state, 2)):
        for row in batch.rows:
            found.setdefault(row, batch)
    return found


def count_states(states: pd.DataFrame) -> dict[str, int]:
    """How many rows are in each of `ROW_STATES`.

    Args:
      states: what `row_states` returns.
    """
    names, counts = np.unique(states["state"].to_numpy(dtype=object), return_counts=True)
    known = dict(zip(names.tolist(), counts.tolist(), strict=True))
    return {state: known.get(state, 0) for state in ROW_STATES}


def left_out(message: str) -> None:
    """Warns that something damaged is left out."""
    warnings.warn(message, ResultsWarning, stacklevel=3)


def _state(
    row: int, batch: Batch | None, failures: dict[int, dict[str, str]]
) -> tuple[str, str, str, str]:
    if row in failures:
        failure = failures[row]
        return "failed", failure["kind"], failure["reason"], failure["where"]
    found = {"complete": "done", "running": "running"}
    return (found.get(batch.standing.state, "pending") if batch else "pending"), "", "", ""


def _told(error: Exception) -> str:
    if isinstance(error, ResultsError):
        return str(error)
    return "its manifest does not say which rows it holds"
