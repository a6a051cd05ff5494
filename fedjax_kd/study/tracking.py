"""Showing the curves of a running study elsewhere: a writer of three functions, and several as one.

What is shown elsewhere is never part of the results. A tracker that fails (no network, a full disk)
is therefore given up with one note, and the study goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

Note = Callable[[str], None]


class TrackingError(ValueError):
    """A tracker that was asked for cannot be used at all, e.g. because its package is missing."""


class Writer(NamedTuple):
    """Takes the rows of a study as they come.

    Attributes:
        rows: takes a frame with the columns of metrics.parquet and `step`, the number of rounds
            since the study began; frames come in the order of their steps.
        flush: makes sure that others see what was taken so far.
        close: ends it; closing again does nothing.
    """

    rows: Callable[[pd.DataFrame], None]
    flush: Callable[[], None]
    close: Callable[[], None]


class Tracked(NamedTuple):
    """What a tracker is told about a study.

    Attributes:
        folder: of its results.
        title: of the study; may be empty.
        method: the study's.
        identity: the settings hash; with point and seed, it names a run for good.
        settings: (point, seed) -> the settings of each row, as dictionaries, lists and scalars.
    """

    folder: Path
    title: str
    method: str
    identity: str
    settings: Mapping[tuple[int, int], Mapping[str, Any]]


Tracker = Callable[[Tracked], Writer]


def no_writer() -> Writer:
    """Forgets everything."""
    return Writer(lambda frame: None, lambda: None, lambda: None)


def all_of(writers: Sequence[Writer]) -> Writer:
    """Several writers as one."""

    def rows(frame: pd.DataFrame) -> None:
        for writer in writers:
            writer.rows(frame)

    def flush() -> None:
        for writer in writers:
            writer.flush()

    def close() -> None:
        for writer in writers:
            writer.close()

    return Writer(rows, flush, close)


def forgiving(name: str, make: Callable[[], Writer], note: Note) -> Writer:
    """A writer that is given up at its first failure, and says so once.

    Args:
        name: what the note calls it.
        make: opens the writer, right away.
        note: shows a line of text.

    Raises:
        TrackingError: if `make` does; that is for the user to put right, before the study begins.
    """
    alive: list[Writer] = []

    def attempt(what: Callable[[], None]) -> None:
        try:
            what()
        except TrackingError:
            raise
        except Exception as error:
            lines = str(error).splitlines() or [""]
            cause = f"{type(error).__name__}: {lines[0]}".rstrip(": ")
            note(f"{name} has failed ({cause}); the study goes on without it")
            given_up = alive.copy()
            alive.clear()
            for writer in given_up:
                _close_quietly(writer)

    def rows(frame: pd.DataFrame) -> None:
        for writer in alive.copy():
            attempt(partial(writer.rows, frame))

    def flush() -> None:
        for writer in alive.copy():
            attempt(writer.flush)

    def close() -> None:
        for writer in alive.copy():
            attempt(writer.close)
        alive.clear()

    attempt(lambda: alive.append(make()))
    return Writer(rows, flush, close)


def open_trackers(names: Sequence[str], tracked: Tracked, note: Note) -> Writer:
    """Opens trackers, each of which may fail without ending the study.

    Args:
        names: keys of `TRACKERS`.
        tracked: the study.
        note: shows a line of text, such as `Progress.note`.

    Raises:
        TrackingError: a name is not known, or the package of a tracker is not installed.
    """
    names = list(dict.fromkeys(names))
    for name in names:
        require_tracker(name)
    return all_of([forgiving(name, lambda n=name: TRACKERS[n](tracked), note) for name in names])


def require_tracker(name: str) -> None:
    """Checks that a tracker is known and that its package is installed.

    Raises:
        TrackingError: says what to install.
    """
    from importlib.util import find_spec

    if name not in TRACKERS:
        raise TrackingError(f"track: found {name!r}; allowed: {' | '.join(TRACKERS)}")
    if find_spec(PACKAGES[name]) is None:
        raise TrackingError(
            f"tracking with {name} takes the package {PACKAGES[name]}, which is not installed; "
            f"pip install 'fedjax-kd[{name}]'"
        )


def _close_quietly(writer: Writer) -> None:
    try:
        writer.close()
    except Exception:  # it has failed already, and that has been said
        return


def _tensorboard(tracked: Tracked) -> Writer:
    from fedjax_kd.study.tracking_tensorboard import tensorboard_writer

    return tensorboard_writer(tracked)


def _wandb(tracked: Tracked) -> Writer:
    from fedjax_kd.study.tracking_wandb import wandb_writer

    return wandb_writer(tracked)


TRACKERS: dict[str, Tracker] = {"tensorboard": _tensorboard, "wandb": _wandb}
PACKAGES = {"tensorboard": "tensorboardX", "wandb": "wandb"}  # extras have the trackers' names
