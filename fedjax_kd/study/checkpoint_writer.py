"""One write at a time beside the study, whose failure is never lost.

Orbax's own asynchronous saves want every process of a study to take part in each of them, and its
keep policy knows nothing of parts that end. So its plain save runs in a thread of ours, in one
process: what it raises stays in the thread's future until somebody has been told.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class Writer:
    """Runs one function at a time in a thread of its own."""

    def __init__(self) -> None:
        self._thread: ThreadPoolExecutor | None = None
        self._writing: Future | None = None

    @property
    def busy(self) -> bool:
        """Whether the last write is still under way."""
        return self._writing is not None and not self._writing.done()

    @property
    def failed(self) -> bool:
        """Whether the last write has failed and nobody was told so far."""
        return bool(
            self._writing is not None
            and self._writing.done()
            and self._writing.exception() is not None
        )

    def start(self, write: Callable[[], None]) -> None:
        """Begins a write; waits for the one before it and raises what that one raised."""
        self.wait()
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing = self._thread.submit(write)

    def wait(self) -> None:
        """Waits for the write that is under way, and raises what it raised, once."""
        if self._writing is not None:
            writing = self._writing
            try:
                writing.result()
            finally:
                if writing.done():
                    self._writing = None

    def close(self) -> None:
        """Ends the thread after its last write, and raises what that one raised."""
        try:
            self.wait()
        finally:
            if self._thread is not None:
                self._thread.shutdown()
                self._thread = None
