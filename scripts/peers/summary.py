"""From measured rounds to ratios: ours over each peer, repeat by repeat."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple

from .contestants import CANONICAL, CONTESTANTS, GROUP_LABELS, OURS


class Measurement(NamedTuple):
    """One contestant's repeat.

    Attributes:
        contestant: a key of `CONTESTANTS`.
        model: which.
        method: which.
        sitting: contestants of one sitting took turns.
        repeat: from 0.
        rounds: in this repeat.
        round_s: seconds per round by the contestant's own clock.
        waited_s: seconds per round by the driver's clock.
        examples_per_s: trained, all clients together.
    """

    contestant: str
    model: str
    method: str
    sitting: int
    repeat: int
    rounds: int
    round_s: float
    waited_s: float
    examples_per_s: float


class Outcome(NamedTuple):
    """What one contestant came to on one job.

    Attributes:
        parameters: of one model, as the contestant counts them.
        accuracy: on the test examples after the last round.
        note: what it said about the way the job is run.
    """

    parameters: int
    accuracy: float
    note: str


class Spread(NamedTuple):
    """Median and range."""

    median: float
    lowest: float
    highest: float


class Line(NamedTuple):
    """One contestant on one model and method, over all repeats.

    Attributes:
        contestant: a key of `CONTESTANTS`.
        label: of the contestant.
        model: which.
        method: which.
        sitting: which.
        counts: whether it is the fastest of its group (or has no variants).
        repeats: number of repeats.
        round_s: seconds per round.
        examples_per_s: trained, all clients together.
        ours_ratio: our speed over this one's in the same repeat.
        canonical_ratio: the same for our canonical kernels; None where those did not take part.
        parameters: of one model.
        accuracy: after the last round.
        note: what it said about the way the job is run.
    """

    contestant: str
    label: str
    model: str
    method: str
    sitting: int
    counts: bool
    repeats: int
    round_s: Spread
    examples_per_s: Spread
    ours_ratio: Spread | None
    canonical_ratio: Spread | None
    parameters: int
    accuracy: float
    note: str


def spread(values: Sequence[float]) -> Spread:
    """Median, lowest and highest of some values."""
    return Spread(statistics.median(values), min(values), max(values))


def lines_of(
    measurements: Sequence[Measurement], outcomes: dict[tuple[str, str, str, int], Outcome]
) -> list[Line]:
    """One line per contestant, model, method and sitting, in the order of the measurements.

    Args:
        measurements: all repeats.
        outcomes: by contestant, model, method and sitting.

    Returns:
        The lines.
    """
    found: dict[tuple[str, str, str, int], list[Measurement]] = {}
    for one in measurements:
        found.setdefault((one.contestant, one.model, one.method, one.sitting), []).append(one)

    def ratio(key: tuple[str, str, str, int], to: str) -> Spread | None:
        reference = found.get((to, *key[1:]))
        if reference is None:
            return None
        seconds = {one.repeat: one.round_s for one in reference}
        shared = [one for one in found[key] if one.repeat in seconds]
        return spread([one.round_s / seconds[one.repeat] for one in shared]) if shared else None

    medians = {key: statistics.median(one.round_s for one in rows) for key, rows in found.items()}
    lines = []
    for key, rows in found.items():
        if key not in outcomes:
            continue
        name, model, method, sitting = key
        group = CONTESTANTS[name].group
        rivals = [
            other
            for other in outcomes
            if other[1:] == key[1:] and CONTESTANTS[other[0]].group == group and other in found
        ]
        lines.append(
            Line(
                contestant=name,
                label=CONTESTANTS[name].label,
                model=model,
                method=method,
                sitting=sitting,
                counts=min(rivals, key=lambda other: medians[other]) == key,
                repeats=len(rows),
                round_s=spread([one.round_s for one in rows]),
                examples_per_s=spread([one.examples_per_s for one in rows]),
                ours_ratio=None if name == OURS else ratio(key, OURS),
                canonical_ratio=None if name in (OURS, CANONICAL) else ratio(key, CANONICAL),
                parameters=outcomes[key].parameters,
                accuracy=outcomes[key].accuracy,
                note=outcomes[key].note,
            )
        )
    return lines


def headline(lines: Sequence[Line], method: str) -> dict[str, dict[str, Line]]:
    """The lines that count, by group and model, of one method; ours of the first sitting only."""
    table: dict[str, dict[str, Line]] = {group: {} for group in GROUP_LABELS}
    for line in lines:
        entry = CONTESTANTS[line.contestant]
        apart = line.contestant in (OURS, CANONICAL) and line.sitting != entry.sitting
        if line.method == method and line.counts and not apart:
            table[entry.group][line.model] = line
    order = {entry.group: None for entry in CONTESTANTS.values()}
    return {group: table[group] for group in order if table[group]}
