"""Where the rows of a running study go: to the disk first, then to whoever tracks the study."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pandas as pd

from fedjax_kd.study.folder import ResultFolder
from fedjax_kd.study.row_log import RowLog
from fedjax_kd.study.tracking import Writer, no_writer


class Outlet(NamedTuple):
    """Takes the rows of a study as they come.

    Attributes:
        rejoin: `(part, done)`: a part begins, or goes on after round `done`; rows past it, which an
            earlier run had written, go.
        rows: `(part, last_round, frame)`: rows of a chunk of rounds of the part, up to that round,
            with the columns of metrics.parquet.
        leave: the study stops before its end; the rows stay.
        close: the study's tables are written and hold everything; the rows go.
    """

    rejoin: Callable[[str, int], None]
    rows: Callable[[str, int, pd.DataFrame], None]
    leave: Callable[[], None]
    close: Callable[[], None]


def no_outlet() -> Outlet:
    """Forgets everything."""
    return Outlet(
        lambda part, done: None, lambda part, last, frame: None, lambda: None, lambda: None
    )


def open_outlet(folder: ResultFolder, writer: Writer | None = None) -> Outlet:
    """Keeps the rows of a study in its folder until the study is finished.

    The writer is told nothing that is on the disk already: an earlier run has told it.

    Args:
        folder: of the study; in a process that leaves the writing to another, rows are forgotten.
        writer: is given the rows as well, with a column `step`: the round, counted from the start
            of the study's first part.
    """
    if not folder.writes:
        return no_outlet()
    log, writer = RowLog(folder.path), no_writer() if writer is None else writer
    told: dict[str, int] = {}  # the round up to which the writer knows a part

    def rejoin(part: str, done: int) -> None:
        told.setdefault(part, log.last_rounds().get(part, 0))
        log.drop_after(part, done)

    def rows(part: str, last_round: int, frame: pd.DataFrame) -> None:
        log.append(part, last_round, frame)
        before = sum(rounds for name, rounds in log.last_rounds().items() if name != part)
        fresh = frame[frame["round"] > told.get(part, 0)]
        if len(fresh):
            writer.rows(fresh.assign(step=fresh["round"] + before))
            writer.flush()

    def close() -> None:
        writer.close()
        log.clear()

    return Outlet(rejoin, rows, writer.close, close)
