"""A study as a process that is killed without warning, and what it had done by then."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

SETTING_UP = ("kernels", "data", "execution")  # stages before anything is trained
POLL_S = 0.002
_TEMPORARY = ".orbax-checkpoint-tmp"

Aim = Literal["any moment", "during a save"]


class Moment(NamedTuple):
    """When a process is to be killed.

    Attributes:
      aim: any moment, or as soon as a save has begun.
      after_s: seconds from the start of the process, or after the beginning of the save.
      saves: how many beginnings of saves to let pass first.
    """

    aim: Aim
    after_s: float
    saves: int = 0


class Life(NamedTuple):
    """What one process did.

    Attributes:
      code: exit code; -9 if it was killed.
      seconds: from start to end.
      training_s: when the first stage that trains began; only of one that was let live.
      resumed: stage -> units that were done before this process.
      stage: the latest stage, empty if there was none.
      done: its units by then.
      saving: whether a save was under way on disk when the process ended.
      output: where its standard error went.
    """

    code: int
    seconds: float
    training_s: float | None
    resumed: dict[str, int]
    stage: str
    done: int
    saving: bool
    output: Path


def live(words: Sequence[str], folder: Path, log: Path, moment: Moment | None) -> Life:
    """Runs the command `fedjax-kd` in a process of its own, and kills it if told when.

    Args:
      words: after `fedjax-kd`.
      folder: of its results, where saves are watched.
      log: where its lines of JSON go; its standard error goes beside it.
      moment: when to kill it; None lets it live.
    """
    errors = log.with_suffix(".err")
    started = time.monotonic()
    with log.open("wb") as out, errors.open("wb") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", "fedjax_kd.cli", *words, "--json"], stdout=out, stderr=err
        )
        try:
            if moment is not None:
                _kill(process, folder, moment, started)
            training_s = _training_begins(process, log, started)
            code = process.wait()
        except BaseException:
            process.kill()
            process.wait()
            raise
    seconds = time.monotonic() - started
    return _told(log, errors, code, seconds, training_s, bool(_partial(folder)))


def chosen_moment(number: int, start_s: float, reach_s: float, chance: random.Random) -> Moment:
    """Draws when a process is killed; every third one during a save.

    Args:
      number: of the kill, from 1.
      start_s: seconds that a process takes until it trains.
      reach_s: the latest that any other one is killed after its start.
      chance: where random numbers come from.
    """
    if number % 3 == 0:
        return Moment("during a save", chance.uniform(0.0, 0.03), chance.randrange(3))
    early = chance.random() < 0.1  # while it starts, restores, or reads what another has left
    return Moment("any moment", chance.uniform(0.0 if early else start_s, reach_s))


def _kill(process: subprocess.Popen, folder: Path, moment: Moment, started: float) -> None:
    if moment.aim == "any moment":
        while time.monotonic() - started < moment.after_s and process.poll() is None:
            time.sleep(POLL_S)
    else:
        seen, saves = set(_partial(folder)), -1
        while saves < moment.saves and process.poll() is None:
            now = set(_partial(folder))
            saves += bool(now - seen)
            seen |= now
            time.sleep(POLL_S)
        time.sleep(moment.after_s)
    process.kill()


def _partial(folder: Path) -> list[str]:
    """Folders below `checkpoints/` that are being written, which have orbax's temporary names."""
    found = []
    try:
        parts = [part.path for part in os.scandir(folder / "checkpoints") if part.is_dir()]
        for part in parts:
            found += [step.path for step in os.scandir(part) if _TEMPORARY in step.name]
    except OSError:  # not there yet, or renamed while we looked
        pass
    return found


def _training_begins(process: subprocess.Popen, log: Path, started: float) -> float | None:
    """Waits for the first stage that trains; None if the process ends before, e.g. by a kill."""
    while process.poll() is None:
        if any(event["stage"] not in SETTING_UP for event in _events(log)):
            return time.monotonic() - started
        time.sleep(0.05)
    return None


def _events(log: Path) -> Iterator[dict[str, Any]]:
    for line in log.read_text(encoding="utf-8").splitlines():
        try:
            event = json.loads(line)
        except ValueError:  # the line that the process is writing, or was when it was killed
            continue
        if event.get("kind") in ("start", "skip", "advance", "end"):
            yield event


def _told(
    log: Path, errors: Path, code: int, seconds: float, training_s: float | None, saving: bool
) -> Life:
    resumed: dict[str, int] = {}
    stage, done = "", 0
    for event in _events(log):
        stage, done = event["stage"], event["done"]
        if event["kind"] == "skip":
            resumed[stage] = done
    return Life(code, seconds, training_s, resumed, stage, done, saving, errors)
