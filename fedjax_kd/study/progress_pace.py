"""How fast a stage goes of late, without what was only done once at its beginning."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

WINDOW_S = 30.0


class _Mark(NamedTuple):
    at_s: float
    units: int
    client_steps: float


@dataclass
class Pace:
    """Rates over the latest seconds.

    The first mark only opens the window: the time before it holds the compilation, and saying
    `0.1 rounds per second` for that would be wrong by orders of magnitude.

    Attributes:
      window_s: how far back the window reaches, at least; it always holds the latest interval.
    """

    window_s: float = WINDOW_S
    _marks: deque[_Mark] = field(default_factory=deque)

    def mark(self, at_s: float, units: int, client_steps: float) -> None:
        """Notes how much was done at a time, counted from the beginning of the stage."""
        self._marks.append(_Mark(at_s, units, client_steps))
        while len(self._marks) > 2 and self._marks[1].at_s <= at_s - self.window_s:
            self._marks.popleft()

    def rates(self) -> tuple[float | None, float | None]:
        """Units and client-steps per second; None for what cannot be known."""
        if len(self._marks) < 2:
            return None, None
        first, last = self._marks[0], self._marks[-1]
        seconds = last.at_s - first.at_s
        units, steps = last.units - first.units, last.client_steps - first.client_steps
        if seconds <= 0 or units <= 0:
            return None, None
        return units / seconds, steps / seconds if steps > 0 else None
