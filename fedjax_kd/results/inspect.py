"""What lies in a folder of results: which study or grid, how far it is, and why it stopped.

Only files are read, and nothing is written: the folder may be in use.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fedjax_kd.results.folders import kind_of
from fedjax_kd.results.inspect_grid import grid_lines, inspect_grid
from fedjax_kd.results.inspect_run import inspect_run, run_lines


def inspect_folder(folder: Path | str) -> dict[str, Any]:
    """Looks at a run or a grid.

    Args:
      folder: a folder that `run` or `sweep` has filled.

    Returns:
      What was found, as dictionaries, lists and scalars: `kind` is `run`, `batch` or `grid`,
      `status` says how it stands, `next` which command goes on. The rest depends on the kind.

    Raises:
      ResultsError: the folder holds no results, or what it holds cannot be read.
    """
    path = Path(folder)
    return inspect_grid(path) if kind_of(path) == "grid" else inspect_run(path)


def inspection_text(found: dict[str, Any], now: datetime | None = None) -> str:
    """What was found, in lines for a person.

    Args:
      found: what `inspect_folder` returned.
      now: the time that "ago" counts from; None takes the clock's.
    """
    now = datetime.now(UTC) if now is None else now
    return "\n".join((grid_lines if found["kind"] == "grid" else run_lines)(found, now))
