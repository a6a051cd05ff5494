"""Being asked to stop: the first signal waits for a good moment, the second does not."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)
STOPPING = "stopping after this chunk; once more to stop at once"


@dataclass
class Stop:
    """Whether somebody has asked for a stop.

    Attributes:
      requested: number of the first signal, or None.
    """

    requested: int | None = None


@contextmanager
def stop_on_signals(say: Callable[[str], None] | None = None) -> Iterator[Stop]:
    """Takes SIGTERM and SIGINT (Ctrl-C) as a wish while it is open.

    The first is noted, and a line says so; a study that asks between two chunks can then save what
    it has. The second ends the program: `KeyboardInterrupt`, or `SystemExit` with code 143. Python
    hears of signals between its own instructions, so while XLA compiles nothing happens.

    Args:
      say: told the line; None writes it to standard error. It runs inside a signal handler.

    Yields:
      What was asked for. In a thread other than the main one, which gets no signals, nothing ever.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.requested is None:
            stop.requested = number
            (say or _to_standard_error)(STOPPING)
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
        else:
            raise SystemExit(128 + number)

    before = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _to_standard_error(text: str) -> None:
    # Not `print`: it may itself be what the signal interrupts.
    with suppress(OSError):
        os.write(2, f"\n{text}\n".encode())
