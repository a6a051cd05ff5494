"""A part of a grid's rows as a job of a scheduler: `fedjax-kd sweep` in a process of its own.

A scheduler that takes the machine away tells the job first. The sweep is then asked to stop, which
it does with a checkpoint, and the job is submitted again as it is: rows that are done are skipped.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

SWEPT = (0, 3)  # all rows are through, though some may have failed
GRACE_S = 60.0


class SweepJob:
    """Some rows of a grid, for submitit, which calls it on the machine that it was given.

    Args:
        words: what follows `fedjax-kd sweep`.
    """

    def __init__(self, words: Sequence[str]):
        self.words = tuple(words)
        self._process: Any = None

    def __call__(self) -> int:
        """Runs the rows; returns the exit code of the sweep.

        Raises:
            RuntimeError: if the sweep was refused or broke; its output says why.
        """
        command = [sys.executable, "-m", "fedjax_kd.cli", "sweep", *self.words]
        self._process = subprocess.Popen(command, preexec_fn=_deaf)
        code = self._process.wait()
        if code not in SWEPT:
            raise RuntimeError(f"fedjax-kd sweep {' '.join(self.words)} ended with code {code}")
        return code

    def checkpoint(self) -> Any:
        """Asks the sweep to stop and waits until it has; what is to be submitted again."""
        from submitit.helpers import DelayedSubmission

        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(GRACE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()  # what was kept before is whole
                self._process.wait()
        return DelayedSubmission(SweepJob(self.words))


def _deaf() -> None:
    """Leaves the scheduler's warning to the job, which knows what to do; runs in the sweep."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
