"""Progress as text: lines of a log for people, and lines of JSON for programs."""

from __future__ import annotations

import json
import sys
from typing import TextIO

from fedjax_kd.study.progress_event import Event, Show

PLAIN_INTERVAL_S = 5.0
_DECIMALS = {"elapsed_s": 3, "stage_s": 3, "left_s": 1}


def quiet() -> Show:
    """Shows nothing."""
    return lambda event: None


def json_lines(stream: TextIO | None = None) -> Show:
    """Writes every event as one line of JSON."""
    out = stream or sys.stdout

    def show(event: Event) -> None:
        fields = {key: value for key, value in event._asdict().items() if value not in ("", None)}
        for key, decimals in _DECIMALS.items():
            if key in fields:
                fields[key] = round(fields[key], decimals)
        for key in ("per_second", "client_steps_per_second"):
            if key in fields:
                fields[key] = float(f"{fields[key]:.4g}")
        print(json.dumps(fields), file=out, flush=True)

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


def speed(event: Event) -> str:
    """The rates in words, e.g. `2.5 rounds/s, 1.2k client-steps/s`; empty if none is known."""
    parts = []
    if event.per_second is not None:
        unit = f" {event.unit}" if event.unit else ""
        parts.append(f"{_short(event.per_second)}{unit}/s")
    if event.client_steps_per_second is not None:
        parts.append(f"{_short(event.client_steps_per_second)} client-steps/s")
    return ", ".join(parts)


def time_left(event: Event) -> str:
    """The time left in words, e.g. `3 min 05 s left`; empty if it is not known."""
    return f"{duration(event.left_s)} left" if event.left_s is not None else ""


def batch_of(event: Event) -> str:
    """Which batch of a grid it is, e.g. `batch 2 of 5`; empty outside a grid."""
    return f"batch {event.batch} of {event.batches}" if event.batch else ""


def duration(seconds: float) -> str:
    """A time in words, e.g. `0.8 s`, `12 s`, `3 min 05 s`, `2 h 10 min`, `3 d 4 h`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24} h"


def _grid_line(event: Event) -> str:
    failed = event.failed or 0
    rows = f"{event.done - failed} of {event.total} rows done"
    lost = f"{failed} failed" if failed else ""
    news = ", ".join(part for part in (rows, lost, time_left(event)) if part)
    where = batch_of(event)
    what = f" ({event.stage})" if event.stage else ""
    return f"{where}: {news}{what}" if where else f"{news}{what}"


def _sentence(event: Event) -> str:
    if event.kind == "note":
        return event.note
    if event.kind == "grid":
        return _grid_line(event)
    if event.kind == "start":
        return f"{event.stage}: started" + (f", {event.total} to do" if event.total else "")
    count = f"{event.done} of {event.total}" if event.total else f"{event.done} done"
    if event.kind == "end":
        count = f"done in {event.stage_s:.1f} s"
    if event.kind == "failed":
        count = f"stopped at {count}"
    if event.kind == "skip":
        count = f"goes on at {count}"
    rates = speed(event) if event.kind in ("advance", "end") else ""
    news = (part for part in (event.note, rates, time_left(event)) if part)
    return ", ".join([f"{event.stage}: {count}", *news])


def _short(number: float) -> str:
    """A rate in three digits, e.g. `0.0123`, `4.56`, `78.9`, `1.23k`, `4.56M`."""
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= 0.9995 * limit:
            return f"{number / limit:.3g}{letter}"
    return f"{number:.3g}"
