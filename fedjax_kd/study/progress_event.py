"""What the parts of a study tell whoever watches it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

Kind = Literal["start", "skip", "advance", "end", "failed", "note", "grid"]


class Event(NamedTuple):
    """Something that happened in a study.

    Attributes:
      kind: what happened; `skip` counts what an earlier run did, `note` is a line of text outside
        any stage, `grid` says how far a grid is.
      stage: the stage's name, or what the grid is working on; empty for a note.
      done: units done so far; of a grid, rows that are done or have failed.
      total: units to do, None if not known.
      note: the latest news in a few words.
      elapsed_s: seconds since the progress object was made.
      stage_s: seconds since the stage, or the grid, began.
      unit: what is counted, e.g. `rounds`; empty if nobody said.
      per_second: units per second of late, None as long as nobody can know.
      client_steps_per_second: steps of local training, summed over clients, likewise.
      left_s: seconds that are left at this rate, None if not known.
      batch: which batch of the grid this happened in, from 1; None outside a grid.
      batches: how many batches this process was given.
      failed: rows of the grid that have failed.
    """

    kind: Kind
    stage: str
    done: int
    total: int | None
    note: str
    elapsed_s: float
    stage_s: float
    unit: str = ""
    per_second: float | None = None
    client_steps_per_second: float | None = None
    left_s: float | None = None
    batch: int | None = None
    batches: int | None = None
    failed: int | None = None


Show = Callable[[Event], None]
