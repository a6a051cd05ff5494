"""The driver's end: a process for each case, and turns that are taken one after the other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from .case import Case

SCRIPTS = Path(__file__).parents[1]
PAUSE_S = 0.05  # before every turn, for the previous one's threads to go to sleep


class CaseFailed(RuntimeError):
    """A case's process could not answer; the text says why."""


class Child:
    """A case's process, kept alive between questions.

    Args:
        case: what it measures.
        folder: where it may put its files, and its error stream.
    """

    def __init__(self, case: Case, folder: Path):
        self.case = case
        self._log = folder / f"log-{time.monotonic_ns()}.txt"
        environment = {**os.environ, "PYTHONPATH": str(SCRIPTS)}
        if case.threads:
            environment["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=true"
        with self._log.open("w") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "scaling.child", json.dumps(case.as_json()), str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environment,
            )

    def ask(self, do: str) -> dict[str, Any]:
        """Puts a question and waits for the answer.

        Raises:
            CaseFailed: if the answer is an error or there is none.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"do": do}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        answer = json.loads(line) if line else {"error": f"ended: {self._last_words()}"}
        if "error" in answer:
            raise CaseFailed(f"{self.case.label}: {answer['error']}")
        return answer

    def stop(self) -> None:
        """Ends the process, by asking first."""
        if self._process.poll() is None:
            try:
                self.ask("quit")
                self._process.wait(60)
            except (CaseFailed, subprocess.TimeoutExpired):
                self._process.kill()
        self._process.wait()

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"status {self._process.poll()}"


class Measured(NamedTuple):
    """What a case's process said.

    Attributes:
        case: what was measured.
        turns_s: seconds of each turn, in the order in which they were taken.
        first_s: of the first turn, which compiles.
        loaded_bytes: resident before the case was built: interpreter, libraries and data set.
        peak_bytes: the most that was resident, from start to end.
        row_bytes: state of one client.
        execution: form, and number of devices.
    """

    case: Case
    turns_s: list[float]
    first_s: float
    loaded_bytes: int
    peak_bytes: int
    row_bytes: int
    execution: str

    @property
    def rounds_s(self) -> list[float]:
        """Seconds per round of each turn."""
        return [turn_s / self.case.rounds for turn_s in self.turns_s]


def measure(cases: Sequence[Case], turns: int, folder: Path, tell) -> list[Measured]:
    """Prepares all cases and then lets them take turns, in an order that rotates.

    Args:
        cases: what to measure.
        turns: of each case, not counting the one that compiles.
        folder: for files.
        tell: called with a line of text before every step.
    """
    with _children(cases, folder) as children:
        loaded, first = [], []
        for child in children:
            tell(f"prepares {child.case.label}")
            loaded.append(child.ask("load"))
            first.append(child.ask("prepare"))
        turns_s: list[list[float]] = [[] for _ in children]
        for turn in range(turns):
            for offset in range(len(children)):
                place = (turn + offset) % len(children)
                tell(f"turn {turn + 1} of {turns}: {children[place].case.label}")
                time.sleep(PAUSE_S)
                turns_s[place].append(children[place].ask("turn")["seconds"])
        peaks = [child.ask("memory")["peak_bytes"] for child in children]
    return [
        Measured(
            child.case,
            seconds,
            answer["seconds"],
            before["resident_bytes"],
            peak,
            answer["row_bytes"],
            answer["execution"],
        )
        for child, seconds, answer, before, peak in zip(
            children, turns_s, first, loaded, peaks, strict=True
        )
    ]


def ask_once(case: Case, do: str, folder: Path) -> dict[str, Any]:
    """One question to a fresh process that has loaded the data, and its peak of memory."""
    with _children([case], folder) as (child,):
        child.ask("load")
        return child.ask(do) | child.ask("memory")


@contextmanager
def _children(cases: Sequence[Case], folder: Path) -> Iterator[list[Child]]:
    with ExitStack() as stack:
        children = []
        for case in cases:
            children.append(Child(case, folder))
            stack.callback(children[-1].stop)
        yield children
