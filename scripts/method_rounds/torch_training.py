"""Local training in PyTorch, eager, as short as it gets.

Data are tensors in memory, a batch is one indexing, losses are read when the round is over. The
optimiser is `torch.optim.SGD(fused=True)`, new for every client and round.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
import torch.nn.functional as F  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]

from .job import Job, Terms

FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def images(inputs: Any) -> torch.Tensor:
    """[..., 28, 28, 1] to [..., 1, 28, 28]; with one channel both formats are the same bytes."""
    return torch.from_numpy(inputs).movedim(-1, -3)


def sgd(models: Sequence[nn.Module], terms: Terms) -> torch.optim.Optimizer:
    """A fresh optimiser of some models; scales and offsets of normalisation do not decay."""
    decayed, spared = [], []
    for model in models:
        for name, leaf in model.named_parameters():
            if leaf.requires_grad:
                (spared if "norm" in name else decayed).append(leaf)
    groups = [{"params": decayed}]
    if spared:
        groups.append({"params": spared, "weight_decay": 0.0})  # pyright: ignore[reportArgumentType]
    return torch.optim.SGD(
        groups, terms.learning_rate, terms.momentum, weight_decay=terms.weight_decay, fused=True
    )


def train(
    loss_of: Callable[[torch.Tensor], torch.Tensor],
    optimiser: torch.optim.Optimizer,
    order: torch.Tensor,
    tally: list[int],
    after: Callable[[], Any] = lambda: None,
    clipped: tuple[list[torch.Tensor], float] = ([], 0.0),
) -> torch.Tensor:
    """Takes a step for every batch.

    Args:
        loss_of: of the positions of a batch.
        optimiser: of what is trained.
        order: int64 [H, B].
        tally: gets the size of every batch that a step was taken on.
        after: called after every step.
        clipped: parameters and the largest norm of their gradient.

    Returns:
        The mean loss.
    """
    total = torch.zeros(())
    for batch in order:
        optimiser.zero_grad()
        loss = loss_of(batch)
        loss.backward()
        if clipped[1]:
            nn.utils.clip_grad_norm_(clipped[0], clipped[1])
        optimiser.step()
        after()
        total += loss.detach()
        tally.append(len(batch))
    return total / len(order)


def losses_of(values: list[tuple[int, torch.Tensor]], length: int) -> list[float]:
    """Losses by position, zeros elsewhere."""
    out = [0.0] * length
    for position, value in values:
        out[position] = float(value)
    return out


@torch.no_grad()
def score(logits_of: Callable[[torch.Tensor], torch.Tensor], job: Job) -> tuple[float, float]:
    """Loss and accuracy on the test examples."""
    inputs = images(job.arrays["test_inputs"])
    labels = torch.from_numpy(job.arrays["test_labels"])
    logits = torch.cat([logits_of(part) for part in inputs.split(250)])
    return float(F.cross_entropy(logits, labels)), float(
        (logits.argmax(1) == labels).float().mean()
    )


def mean_score(scores: list[tuple[float, float]]) -> tuple[float, float]:
    """Mean loss and accuracy over models."""
    losses, accuracies = zip(*scores, strict=True)
    return float(np.mean(losses)), float(np.mean(accuracies))
