"""A part of a grid's rows as a job of a scheduler: `fedjax-kd sweep` in a process of its own.

A scheduler that takes the machine away tells the job first. The sweep is then asked to stop, which
it does with a checkpoint, and the job is submitted again as it is: rows that are done are skipped.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

SWEPT = (0, 3)  # all rows are through, though some may have failed
GRACE_S = 60.0
_LOOK_S = 0.05  # between two looks whether the sweep has ended
_FIRST_TIME_ONLY = ("--force", "--retry-failed")


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
        with _deaf_to_the_scheduler():
            self._process = subprocess.Popen(command)
        # In a thread: `checkpoint` comes as a signal's handler into the middle of what follows, and
        # could not end a wait of this thread that it needs the end of itself.
        waiter = threading.Thread(target=self._process.wait, daemon=True)
        waiter.start()
        while waiter.is_alive():
            waiter.join(1.0)
        code = self._process.returncode
        if code not in SWEPT:
            raise RuntimeError(f"fedjax-kd sweep {' '.join(self.words)} ended with code {code}")
        return code

    def checkpoint(self) -> Any:
        """Asks the sweep to stop and waits until it has; what is to be submitted again."""
        from submitit.helpers import DelayedSubmission

        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            if not _ended(self._process, GRACE_S):
                self._process.kill()  # what was kept before is whole
                _ended(self._process, GRACE_S)
        return DelayedSubmission(SweepJob([word for word in self.words if _lasting(word)]))


def _ended(process: Any, within_s: float) -> bool:
    """Whether a process ends in time; takes no lock that the interrupted code may hold."""
    until_s = time.monotonic() + within_s
    while process.poll() is None:
        if time.monotonic() > until_s:
            return False
        time.sleep(_LOOK_S)
    return True


def _lasting(word: str) -> bool:
    """Whether a word holds again when the job goes on: not what begins anew, however short."""
    return len(word) < 3 or not any(option.startswith(word) for option in _FIRST_TIME_ONLY)


@contextmanager
def _deaf_to_the_scheduler() -> Iterator[None]:
    """Processes that are started inside leave the scheduler's warning to the job, which waits."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
