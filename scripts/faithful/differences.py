"""How far two sides of a comparison are apart, round by round."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .job import Job, Outcome, Weights


class Line(NamedTuple):
    """A row of the table: one method after some rounds; NaN for what was not looked at.

    Attributes:
        method: a key of `METHODS`.
        rounds: finished rounds, 0..R.
        ours: our accuracy over all clients' test examples, in [0, 1].
        theirs: the other loop's.
        largest: largest absolute difference between two parameters, over all clients.
        relative: norm of the difference of all parameters, over that of how far ours have come
            since the start.
        rounding: as `relative`, of the other loop in double precision from itself in single.
        seconds_ours: that all rounds took together, compilation included.
        seconds_theirs: likewise.
    """

    method: str
    rounds: int
    ours: float
    theirs: float
    largest: float
    relative: float
    rounding: float
    seconds_ours: float
    seconds_theirs: float


def lines_of(
    job: Job,
    ours: Outcome,
    theirs: Outcome,
    seconds: tuple[float, float] = (float("nan"), float("nan")),
    doubled: Outcome | None = None,
) -> list[Line]:
    """One line for every number of finished rounds.

    Args:
        job: what both were given.
        ours: what came of it.
        theirs: of the other loop.
        seconds: that ours and theirs took.
        doubled: of the other loop in double precision; None where there is no such run.
    """
    found = []
    for done, (here, there) in enumerate(zip(ours.accuracy, theirs.accuracy, strict=True)):
        apart = (float("nan"), float("nan"), float("nan"))
        if 1 <= done <= len(ours.parameters):
            mine, other = ours.parameters[done - 1], theirs.parameters[done - 1]
            way = norm(mine, job.weights)
            alone = float("nan")
            if doubled is not None:
                alone = norm(doubled.parameters[done - 1], other) / way
            apart = (largest(mine, other), norm(mine, other) / way, alone)
        found.append(Line(job.terms.method, done, float(here), float(there), *apart, *seconds))
    return found


def largest(first: Weights, second: Weights) -> float:
    """The largest absolute difference between two parameters."""
    check_names(first, second)
    return max(float(np.abs(_apart(first[n], second[n])).max()) for n in first)


def norm(first: Weights, second: Weights) -> float:
    """The Euclidean norm of the difference."""
    check_names(first, second)
    return float(np.sqrt(sum(np.sum(_apart(first[n], second[n]) ** 2) for n in first)))


def check_names(first: Weights, second: Weights) -> None:
    """That two sets of arrays have the same names and shapes.

    Raises:
        ValueError: if they do not.
    """
    shapes = [{name: leaf.shape for name, leaf in w.items()} for w in (first, second)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"parameters: {shapes[0]} and {shapes[1]} are not of one network")


def curves(lines: Sequence[Line], method: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rounds, our accuracy and theirs, of one method."""
    mine = [line for line in lines if line.method == method]
    columns = np.array([(line.rounds, line.ours, line.theirs) for line in mine]).T
    return columns[0], columns[1], columns[2]


def _apart(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return first.astype(np.float64) - second.astype(np.float64)
