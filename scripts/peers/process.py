"""The driver's end of a contestant's process."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).parents[1]


PATIENCE_S = 900.0  # for one answer


class ContestantFailed(Exception):
    """A contestant could not start or answer; the text says why in one line."""


class Process:
    """A contestant's process, kept alive between questions.

    Args:
        interpreter: the Python that runs it.
        module: its full name, from the folder of scripts on.
        environment: added to the driver's.
        log: where its error stream goes.
    """

    def __init__(self, interpreter: str, module: str, environment: Mapping[str, str], log: Path):
        self.log = log
        self._errors = log.open("w")
        try:
            self._child = subprocess.Popen(
                [interpreter, "-m", module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                cwd=log.parent,
                env={**os.environ, "PYTHONPATH": str(SCRIPTS), **environment},
            )
        except OSError as error:
            raise ContestantFailed(f"{interpreter} does not start: {error}") from error

    def ask(self, do: str, **more: Any) -> tuple[dict[str, Any], float]:
        """Puts a question; returns the answer and the seconds until it came.

        Raises:
            ContestantFailed: if the answer is an error or there is none.
        """
        questions, answers = self._child.stdin, self._child.stdout
        if questions is None or answers is None:
            raise ContestantFailed("the process has no pipes")
        begin_s = time.perf_counter()
        watch = threading.Timer(PATIENCE_S, self._child.kill)
        watch.start()
        try:
            questions.write(json.dumps({"do": do} | more) + "\n")
            questions.flush()
            line = answers.readline()
        except BrokenPipeError:
            line = ""
        finally:
            watch.cancel()
        waited_s = time.perf_counter() - begin_s
        if not line:
            if waited_s > PATIENCE_S:
                raise ContestantFailed(f"no answer to {do!r} within {PATIENCE_S:g} s")
            raise ContestantFailed(self._last_words())
        answer = json.loads(line)
        if "error" in answer:
            raise ContestantFailed(answer["error"])
        return answer, waited_s

    def stop(self) -> None:
        """Ends the process, by asking first."""
        if self._child.poll() is None:
            try:
                self.ask("quit")
                self._child.wait(60)
            except (ContestantFailed, subprocess.TimeoutExpired):
                self._child.kill()
        self._child.wait()
        self._errors.close()

    def _last_words(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"ended with status {self._child.poll()}"
