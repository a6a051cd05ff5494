"""From measured rounds to ratios: ours over each peer, repeat by repeat."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple

from peers.summary import Spread, spread

from .agreement import Agreement
from .contestants import CANONICAL, CONTESTANTS, OURS


class Measurement(NamedTuple):
    """One contestant's round.

    Attributes:
        contestant: a key of `CONTESTANTS`.
        method: which.
        repeat: from 0.
        round_s: seconds by the contestant's own clock.
        waited_s: seconds by the driver's clock.
        loss: mean training loss of the models that trained.
    """

    contestant: str
    method: str
    repeat: int
    round_s: float
    waited_s: float
    loss: float


class Outcome(NamedTuple):
    """What one contestant came to with one method.

    Attributes:
        first: the comparison with ours after the first round.
        first_s: seconds of the first round, compilation included.
        test_loss: after the last round.
        accuracy: likewise.
        note: what it said about the way the job is run.
    """

    first: Agreement
    first_s: float
    test_loss: float
    accuracy: float
    note: str


class Line(NamedTuple):
    """One contestant with one method, over all repeats.

    Attributes:
        contestant: a key of `CONTESTANTS`.
        label: of the contestant.
        method: which.
        counts: whether it is the fastest of its group (or has no variants).
        repeats: number of repeats.
        round_s: seconds per round.
        steps_per_s: optimiser steps, over all models.
        ours_ratio: our speed over this one's in the same repeat.
        canonical_ratio: the same for our canonical kernels; None where those did not take part.
        steps: optimiser steps of a round.
        examples: that they are taken on.
        first_s: seconds of the first round, compilation included.
        loss_gap: relative distance from ours in the first round's mean loss.
        weights_gap: distance of all parameters from ours after it, relative to how far ours moved.
        test_loss: after the last round.
        accuracy: likewise.
        note: what it said about the way the job is run.
    """

    contestant: str
    label: str
    method: str
    counts: bool
    repeats: int
    round_s: Spread
    steps_per_s: Spread
    ours_ratio: Spread | None
    canonical_ratio: Spread | None
    steps: int
    examples: int
    first_s: float
    loss_gap: float
    weights_gap: float
    test_loss: float
    accuracy: float
    note: str


def lines_of(
    measurements: Sequence[Measurement], outcomes: dict[tuple[str, str], Outcome]
) -> list[Line]:
    """One line per contestant and method, in the order of the measurements.

    Args:
        measurements: all repeats.
        outcomes: by contestant and method.

    Returns:
        The lines.
    """
    found: dict[tuple[str, str], list[Measurement]] = {}
    for one in measurements:
        found.setdefault((one.contestant, one.method), []).append(one)
    found = {key: rows for key, rows in found.items() if key in outcomes}

    def ratio(key: tuple[str, str], to: str) -> Spread | None:
        reference = found.get((to, key[1]))
        if reference is None or to == key[0]:
            return None
        seconds = {one.repeat: one.round_s for one in reference}
        shared = [one for one in found[key] if one.repeat in seconds]
        return spread([one.round_s / seconds[one.repeat] for one in shared]) if shared else None

    medians = {key: statistics.median(one.round_s for one in rows) for key, rows in found.items()}
    lines = []
    for (name, method), rows in found.items():
        group, outcome = CONTESTANTS[name].group, outcomes[name, method]
        rivals = [key for key in found if key[1] == method and CONTESTANTS[key[0]].group == group]
        steps = outcome.first.steps
        lines.append(
            Line(
                contestant=name,
                label=CONTESTANTS[name].label,
                method=method,
                counts=min(rivals, key=lambda key: medians[key]) == (name, method),
                repeats=len(rows),
                round_s=spread([one.round_s for one in rows]),
                steps_per_s=spread([steps / one.round_s for one in rows]),
                ours_ratio=ratio((name, method), OURS),
                canonical_ratio=None if name == OURS else ratio((name, method), CANONICAL),
                steps=steps,
                examples=outcome.first.examples,
                first_s=outcome.first_s,
                loss_gap=outcome.first.loss_gap,
                weights_gap=outcome.first.weights_gap,
                test_loss=outcome.test_loss,
                accuracy=outcome.accuracy,
                note=outcome.note,
            )
        )
    return lines


def headline(lines: Sequence[Line]) -> dict[str, dict[str, Line]]:
    """The lines that count, by group and method."""
    table: dict[str, dict[str, Line]] = {entry.group: {} for entry in CONTESTANTS.values()}
    for line in lines:
        if line.counts:
            table[CONTESTANTS[line.contestant].group][line.method] = line
    return {group: row for group, row in table.items() if row}
