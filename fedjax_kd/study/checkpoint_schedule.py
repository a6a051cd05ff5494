"""When a checkpoint is due: after so many rounds, after so many minutes, and how many stay."""

from __future__ import annotations

import math
from dataclasses import dataclass

DEFAULT_MINUTES = 10.0


@dataclass(frozen=True)
class Cadence:
    """How often a running study is saved; of no influence on its results.

    Attributes:
      every_rounds: saves when the number of rounds passes a multiple of it; None: no such rule.
      every_minutes: saves when the last save is this long ago; None: no such rule.
      keep: how many checkpoints of each part stay while the study runs.

    Raises:
      ValueError: a number is out of its range; the text names it.
    """

    every_rounds: int | None = None
    every_minutes: float | None = DEFAULT_MINUTES
    keep: int = 2

    def __post_init__(self):
        if self.every_rounds is not None:
            _require_count("every_rounds", self.every_rounds, "null or a whole number, at least 1")
        _require_count("keep", self.keep, "a whole number, at least 1")
        minutes = self.every_minutes
        if minutes is not None and not (_is_number(minutes) and 0 < minutes < math.inf):
            raise ValueError(
                f"every_minutes: found {minutes!r}; allowed: null or a finite number, above 0"
            )


def is_due(cadence: Cadence, step: int, saved_step: int, since_s: float) -> bool:
    """Whether a part should be saved now.

    Args:
      cadence: the rules; one that holds is enough.
      step: how far the part is.
      saved_step: how far it was when it was saved or restored last, 0 if never.
      since_s: seconds since then.
    """
    by_rounds, by_minutes = cadence.every_rounds, cadence.every_minutes
    passed = by_rounds is not None and step // by_rounds > saved_step // by_rounds
    return passed or (by_minutes is not None and since_s >= 60 * by_minutes)


def dispensable(steps: list[int], keep: int) -> list[int]:
    """Those of the saved steps that no longer need to stay: all but the last `keep`."""
    return sorted(steps)[:-keep]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _require_count(name: str, value: object, allowed: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name}: found {value!r}; allowed: {allowed}")
