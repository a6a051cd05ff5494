"""The rows of a study that is under way: small files that hold a part's rounds, one after another.

`rows/<part>/<last round, 8 digits>.parquet` is written whole or not at all, and stays until the
tables of the finished study are there. What ends in `.partial` was never finished and does not
count.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fedjax_kd.results.status import left_out

ROWS = "rows"
KEYS = ("point", "seed", "round", "scope", "metric")


class PartRows(NamedTuple):
    """One part of a study, as far as its rows have come.

    Attributes:
      name: the part's.
      files: in the order of their rounds.
    """

    name: str
    files: tuple[Path, ...]

    @property
    def last_round(self) -> int:
        """The last round that has been written down; 0 before the first."""
        return last_round_of(self.files[-1]) if self.files else 0


def part_file(folder: Path, part: str, last_round: int) -> Path:
    """Where the rows of a part up to a round are.

    Args:
      folder: of the study.
      part: its name.
      last_round: of the file.
    """
    return folder / ROWS / part / f"{last_round:08d}.parquet"


def last_round_of(path: Path) -> int:
    """The round that a file's name says."""
    return int(path.stem)


def read_part(folder: Path, part: str) -> PartRows:
    """The files of one part; none if nothing has been written yet."""
    files = [path for path in (folder / ROWS / part).glob("*.parquet") if path.stem.isdecimal()]
    return PartRows(part, tuple(sorted(files, key=last_round_of)))


def read_parts(folder: Path) -> list[PartRows]:
    """The parts of a study that have rows, by name."""
    names = sorted(path.name for path in (folder / ROWS).glob("*") if path.is_dir())
    return [found for found in (read_part(folder, name) for name in names) if found.files]


def read_under_way(folder: Path) -> tuple[list[pa.Table], bool]:
    """All rows of a study that is under way.

    A file that cannot be read is left out, with a warning.

    Args:
      folder: of the study.

    Returns:
      Tables, and whether some rows may stand in two of them: a process that dies while it shortens
      a file leaves the old one beside the new.

    Raises:
      FileNotFoundError: a running study has taken a file away in the meantime; read again.
    """
    tables, twice = [], False
    for part in read_parts(folder):
        highest = -math.inf
        for path in part.files:
            try:
                table = pq.read_table(path)
                rounds = np.asarray(table["round"], np.int64)
            except FileNotFoundError:
                raise
            except (OSError, ValueError, KeyError, pa.ArrowException) as error:
                left_out(f"{path} is damaged and left out: {error}")
                continue
            tables.append(table)
            if len(rounds):
                twice |= bool(rounds.min() <= highest)
                highest = max(highest, rounds.max())
    return tables, twice
