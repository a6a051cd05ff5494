"""How far a study has come: bars on a terminal, plain lines elsewhere.

The code that works names its stages and counts; what is shown is the business of one function that
is given every event, so that a run can be watched by a person, a log file or a program.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TextIO

PLAIN_INTERVAL_S = 5.0


class Event(NamedTuple):
    """Something that happened in a study.

    Attributes:
      kind: what happened; `note` is a line of text outside any stage.
      stage: the stage's name, empty for a note.
      done: units done so far.
      total: units to do, None if not known.
      note: the latest news in a few words.
      elapsed_s: seconds since the progress object was made.
      stage_s: seconds since the stage began.
    """

    kind: Literal["start", "advance", "end", "failed", "note"]
    stage: str
    done: int
    total: int | None
    note: str
    elapsed_s: float
    stage_s: float


Show = Callable[[Event], None]


@dataclass
class Stage:
    """A part of a study that is under way."""

    name: str
    total: int | None
    started_s: float
    _emit: Callable[[Stage, Any], None]
    done: int = 0
    note: str = ""

    def advance(self, units: int = 1, note: str = "") -> None:
        """Counts units that are done and keeps the latest news, if there is any."""
        self.done += units
        self.note = note or self.note
        self._emit(self, "advance")


class Progress:
    """Tells a `show` function what happens.

    Args:
      show: is called with every event.
      clock: returns seconds; only differences are used.
    """

    def __init__(self, show: Show, clock: Callable[[], float] = time.monotonic):
        self._show, self._clock = show, clock
        self._started_s = clock()
        self.stage_seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[Stage]:
        """Opens a stage; its seconds are added up in `stage_seconds` when it closes.

        Args:
          name: what is being done, e.g. `teacher`.
          total: how many units there are to do, if it is known.
        """
        stage = Stage(name, total, self._clock(), self._emit)
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

    def note(self, text: str) -> None:
        """Says something that belongs to no stage."""
        self._show(Event("note", "", 0, None, text, self._clock() - self._started_s, 0.0))

    def _emit(self, stage: Stage, kind: Any) -> None:
        now_s = self._clock()
        elapsed_s, stage_s = now_s - self._started_s, now_s - stage.started_s
        self._show(Event(kind, stage.name, stage.done, stage.total, stage.note, elapsed_s, stage_s))


def quiet() -> Show:
    """Shows nothing."""
    return lambda event: None


def json_lines(stream: TextIO | None = None) -> Show:
    """Writes every event as one line of JSON."""
    out = stream or sys.stdout

    def show(event: Event) -> None:
        fields = {key: value for key, value in event._asdict().items() if value not in ("", None)}
        seconds = {key: round(fields[key], 3) for key in ("elapsed_s", "stage_s")}
        print(json.dumps(fields | seconds), file=out, flush=True)

    return show


def plain_lines(stream: TextIO | None = None, interval_s: float = PLAIN_INTERVAL_S) -> Show:
    """Writes lines for a log: starts, ends, and between them one every few seconds.

    Args:
      stream: where to; standard error by default.
      interval_s: the least time between two lines of a stage in between.
    """
    out = stream or sys.stderr
    last_s: dict[str, float] = {}

    def show(event: Event) -> None:
        if event.kind == "advance" and event.elapsed_s - last_s[event.stage] < interval_s:
            return
        last_s[event.stage] = event.elapsed_s
        print(f"[{event.elapsed_s:7.1f} s] {_sentence(event)}", file=out, flush=True)

    return show


def _sentence(event: Event) -> str:
    if event.kind == "note":
        return event.note
    if event.kind == "start":
        return f"{event.stage}: started" + (f", {event.total} to do" if event.total else "")
    count = f"{event.done} of {event.total}" if event.total else f"{event.done} done"
    if event.kind == "end":
        count = f"done in {event.stage_s:.1f} s"
    if event.kind == "failed":
        count = f"stopped at {count}"
    return f"{event.stage}: {count}" + (f", {event.note}" if event.note else "")


@contextmanager
def bars(stream: TextIO | None = None) -> Iterator[Show]:
    """Shows a bar for each stage on a terminal, and keeps the bars when the study ends."""
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    console = Console(file=stream or sys.stderr)
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()]
    columns += [TimeElapsedColumn(), TextColumn("[dim]{task.fields[note]}", markup=True)]
    with Bars(*columns, console=console) as live:
        tasks: dict[str, Any] = {}

        def show(event: Event) -> None:
            if event.kind == "note":
                live.console.print(event.note, markup=False, highlight=False)
                return
            if event.kind == "start":
                tasks[event.stage] = live.add_task(event.stage, total=event.total, note="")
            if event.kind == "end":
                total = event.total or max(event.done, 1)
                live.update(tasks[event.stage], total=total, completed=event.done or total)
            else:
                news = escape(event.note)
                live.update(tasks[event.stage], completed=event.done, total=event.total, note=news)

        yield show


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
