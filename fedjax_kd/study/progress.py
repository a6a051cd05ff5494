"""How far a study has come: bars on a terminal, plain lines elsewhere.

The code that works names its stages and counts; what is shown is the business of one function that
is given every event, so that a run can be watched by a person, a log file or a program.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal, TextIO

from fedjax_kd.study.progress_bars import bars as bars
from fedjax_kd.study.progress_event import Event as Event
from fedjax_kd.study.progress_event import Kind, Show
from fedjax_kd.study.progress_lines import json_lines as json_lines
from fedjax_kd.study.progress_lines import plain_lines as plain_lines
from fedjax_kd.study.progress_lines import quiet as quiet
from fedjax_kd.study.progress_pace import Pace


@dataclass
class Stage:
    """A part of a study that is under way."""

    name: str
    total: int | None
    started_s: float
    _emit: Callable[[Stage, Kind], None]
    unit: str = ""
    done: int = 0
    client_steps: float = 0.0
    note: str = ""
    pace: Pace = field(default_factory=Pace)

    def advance(self, units: int = 1, note: str = "", client_steps: float = 0.0) -> None:
        """Counts what has been done since the last call.

        Args:
          units: how many of what the stage counts.
          note: the latest news; empty keeps the earlier ones.
          client_steps: steps of local training that went into them, summed over clients.
        """
        self.done += units
        self.client_steps += client_steps
        self.note = note or self.note
        self._emit(self, "advance")

    def skip(self, units: int, note: str = "") -> None:
        """Counts units that an earlier run did: they say nothing about how fast this one is."""
        self.done += units
        self.note = note or self.note
        self._emit(self, "skip")


@dataclass
class Grid:
    """How far the rows of a grid are, over all processes that work on it."""

    rows: int
    batches: int
    done: int
    failed: int
    _emit: Callable[[Grid], None]
    started_s: float
    first: int
    batch: int | None = None
    doing: str = ""

    def begin(self, doing: str) -> None:
        """Says that the next batch begins.

        Args:
          doing: the batch in a few words, e.g. `rows 8 to 15: fd, fedavg`.
        """
        self.batch, self.doing = (self.batch or 0) + 1, doing
        self._emit(self)

    def count(self, done: int, failed: int) -> None:
        """Says how many rows of the whole grid are done, and how many have failed."""
        self.done, self.failed = done, failed
        self._emit(self)


class Progress:
    """Tells a `show` function what happens.

    Args:
      show: is called with every event.
      clock: returns seconds; only differences are used.
    """

    def __init__(self, show: Show, clock: Callable[[], float] = time.monotonic):
        self._shows, self._clock = [show], clock
        self._started_s = clock()
        self._grid: Grid | None = None
        self.stage_seconds: dict[str, float] = {}

    def _show(self, event: Event) -> None:
        """Shows an event; nobody is shown any more once whoever read it has gone."""
        try:
            for show in self._shows:
                show(event)
        except BrokenPipeError:
            self._shows = []

    @contextmanager
    def stage(self, name: str, total: int | None = None, unit: str = "") -> Iterator[Stage]:
        """Opens a stage; its seconds are added up in `stage_seconds` when it closes.

        Args:
          name: what is being done, e.g. `teacher`.
          total: how many units there are to do, if it is known.
          unit: what is counted, e.g. `rounds`.
        """
        stage = Stage(name, total, self._clock(), self._emit, unit)
        self._emit(stage, "start")
        try:
            yield stage
        except BaseException:
            self._emit(stage, "failed")
            raise
        else:
            self._emit(stage, "end")
        finally:
            seconds = self._clock() - stage.started_s
            self.stage_seconds[name] = self.stage_seconds.get(name, 0.0) + seconds

    @contextmanager
    def grid(self, rows: int, batches: int, done: int = 0, failed: int = 0) -> Iterator[Grid]:
        """Opens a grid, in which stages repeat from batch to batch.

        Args:
          rows: rows that are to be done, here and by others.
          batches: batches that this process expects to run.
          done: rows that are done already.
          failed: rows that have failed already.
        """
        self._grid = Grid(
            rows, batches, done, failed, self._emit_grid, self._clock(), done + failed
        )
        try:
            yield self._grid
        finally:
            self._grid = None

    def note(self, text: str) -> None:
        """Says something that belongs to no stage."""
        self._show(Event("note", "", 0, None, text, self._clock() - self._started_s, 0.0))

    def _emit(self, stage: Stage, kind: Kind) -> None:
        now_s = self._clock()
        if kind == "advance":
            stage.pace.mark(now_s, stage.done, stage.client_steps)
        per_second, steps_per_second = stage.pace.rates()
        left_s = None
        if kind == "advance" and per_second is not None and stage.total is not None:
            left_s = max(stage.total - stage.done, 0) / per_second
        grid = self._grid
        self._show(
            Event(
                kind,
                stage.name,
                stage.done,
                stage.total,
                stage.note,
                now_s - self._started_s,
                now_s - stage.started_s,
                unit=stage.unit,
                per_second=per_second,
                client_steps_per_second=steps_per_second,
                left_s=left_s,
                batch=grid.batch if grid else None,
                batches=grid.batches if grid else None,
            )
        )

    def _emit_grid(self, grid: Grid) -> None:
        now_s = self._clock()
        seen = grid.done + grid.failed
        fresh, seconds = seen - grid.first, now_s - grid.started_s
        # Every batch of another group compiles anew, so the rows so far stand for those to come.
        left_s = (grid.rows - seen) * seconds / fresh if fresh > 0 else None
        self._show(
            Event(
                "grid",
                grid.doing,
                seen,
                grid.rows,
                "",
                now_s - self._started_s,
                seconds,
                unit="rows",
                left_s=left_s,
                batch=grid.batch,
                batches=grid.batches,
                failed=grid.failed,
            )
        )


@contextmanager
def shown_progress(mode: Literal["auto", "quiet", "json"], stream: TextIO) -> Iterator[Progress]:
    """Opens the progress object that suits where the output goes.

    Args:
      mode: `auto` draws bars if `stream` is a terminal and writes plain lines otherwise.
      stream: where bars and plain lines go; JSON goes to standard output.
    """
    if mode == "auto" and stream.isatty():
        with bars(stream) as show:
            yield Progress(show)
        return
    shows = {"quiet": quiet, "json": json_lines, "auto": lambda: plain_lines(stream)}
    yield Progress(shows[mode]())
