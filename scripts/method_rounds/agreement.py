"""Whether a contestant does the same work as ours: counted, and by what comes of it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .job import Weights

LOSS, WEIGHTS = 1e-3, 0.05
LOSS_OF_OTHER_PADDING, WEIGHTS_OF_OTHER_PADDING = 0.02, 0.2
"""Largest gaps that are taken for rounding, or for a halving convolution padded on all sides.

Over the 60 steps of a ResNet our own two kinds of kernels come 0.016 apart in the parameters, and
another padding 0.052; over the other networks rounding makes less than 0.001. A round of on-device
KD without its soft loss is 0.48 off.
"""


class Agreement(NamedTuple):
    """How far a contestant is from ours after the first round, from the same weights.

    Attributes:
        steps: optimiser steps of the round.
        examples: that they were taken on.
        loss: mean training loss of the models that trained.
        loss_gap: its distance from ours, relative to ours.
        weights_gap: distance of all parameters from ours, relative to how far ours have moved.
    """

    steps: int
    examples: int
    loss: float
    loss_gap: float
    weights_gap: float


def agreement(
    told: dict[str, Any],
    ours: dict[str, Any],
    weights: Weights,
    our_weights: Weights,
    start: Weights,
) -> Agreement:
    """Compares the first round of two contestants.

    Args:
        told: the contestant's answer to the question `round`.
        ours: our own.
        weights: the contestant's, after the round.
        our_weights: likewise.
        start: everybody's, before it.
    """
    if set(weights) != set(our_weights):
        raise ValueError(f"weights: found {sorted(weights)}; ours are {sorted(our_weights)}")
    loss, our_loss = _mean(told["losses"]), _mean(ours["losses"])
    apart = moved = 0.0
    for name, leaf in our_weights.items():
        apart += float(np.sum((weights[name].astype(np.float64) - leaf) ** 2))
        moved += float(np.sum((leaf.astype(np.float64) - start[name]) ** 2))
    return Agreement(
        steps=told["steps"],
        examples=told["examples"],
        loss=loss,
        loss_gap=abs(loss - our_loss) / our_loss,
        weights_gap=float(np.sqrt(apart / moved)),
    )


def complaint(found: Agreement, steps: int, examples: int, *, other_padding: bool) -> str:
    """What is wrong with a contestant's first round; empty if nothing.

    Args:
        found: the comparison.
        steps: that the job asks for.
        examples: likewise.
        other_padding: whether the contestant's ResNet is padded in another way than ours.
    """
    if (found.steps, found.examples) != (steps, examples):
        return (
            f"did {found.steps} steps on {found.examples} examples; the job has {steps} on "
            f"{examples}"
        )
    most_loss = LOSS_OF_OTHER_PADDING if other_padding else LOSS
    most_weights = WEIGHTS_OF_OTHER_PADDING if other_padding else WEIGHTS
    if not found.loss_gap <= most_loss:
        return f"its mean loss is off by {found.loss_gap:.2g} of ours; allowed: {most_loss:g}"
    if not found.weights_gap <= most_weights:
        return (
            f"its parameters are off by {found.weights_gap:.2g} of what our round moved; allowed: "
            f"{most_weights:g}"
        )
    return ""


def _mean(losses: list[float]) -> float:
    """Mean over those that trained."""
    return float(np.mean([loss for loss in losses if loss != 0.0]))
