"""How long the parts of a study took on the wall clock; says nothing about its results."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from fedjax_kd.study.folder import ResultFolder

TABLE = "timings.parquet"
WRITE_EVERY_S = 30.0
COLUMNS = ("part", "first_round", "last_round", "seconds", "client_steps")


class Timings:
    """Rows of timings.parquet, those of earlier runs into the same folder first.

    They are written every half minute, so that a killed run loses no more.

    Args:
        folder: the results folder.
        clock: returns seconds; only differences are used.
    """

    def __init__(self, folder: ResultFolder, clock: Callable[[], float] = time.monotonic):
        self._folder, self._clock = folder, clock
        self._written_s = clock()
        self._rows: list[dict[str, Any]] = _earlier(folder.path / TABLE) if folder.writes else []

    def add(
        self, part: str, first_round: int, last_round: int, seconds: float, client_steps: float
    ) -> None:
        """Notes that rounds of a part were run; with compilation where a program was new."""
        values = part, int(first_round), int(last_round), float(seconds), float(client_steps)
        self._rows.append(dict(zip(COLUMNS, values, strict=True)))
        if self._clock() - self._written_s > WRITE_EVERY_S:
            self.write()

    def rejoin(self, part: str, done: int) -> None:
        """A part goes on after round `done`: rows past it are of rounds that are run again."""
        self._rows = [row for row in self._rows if row["part"] != part or row["last_round"] <= done]

    def write(self) -> None:
        """Writes the table."""
        self._written_s = self._clock()
        self._folder.write_table(TABLE, pd.DataFrame(self._rows, columns=list(COLUMNS)))


def elapsed_s(before: Mapping[str, Any], now: Mapping[str, float]) -> dict[str, float]:
    """Seconds of each stage over all runs into a folder.

    Args:
        before: `elapsed_s` of the manifest that an earlier run left.
        now: those of this run.
    """
    return {stage: before.get(stage, 0.0) + now.get(stage, 0.0) for stage in {**before, **now}}


def _earlier(path: Path) -> list[dict[str, Any]]:
    """What a table says; nothing where there is none that can be read, for it is only timings."""
    try:
        return pd.read_parquet(path).to_dict("records")  # pyright: ignore[reportReturnType]
    except (OSError, ValueError):
        return []
