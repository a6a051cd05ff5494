"""Local training in PyTorch, as short as it gets without leaving eager mode.

Data are tensors in memory, a batch is one indexing, nothing is read back from a tensor during a
round. The SGD step is one fused call over all parameters, which was as fast as or faster than
`torch.optim.SGD` in its plain, `foreach` and `fused` forms, as was throwing gradients away before
a step over keeping them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch  # pyright: ignore[reportMissingImports]
import torch.nn.functional as F  # pyright: ignore[reportMissingImports]

from . import torch_models
from .job import Job, Terms

SMALLEST = 1e-7  # of a probability that others learn from


class Data(NamedTuple):
    """The clients' examples as tensors.

    Attributes:
        inputs: float32 [K, n, 1, 28, 28].
        labels: int64 [K, n].
        order: int64 [R, K, n].
    """

    inputs: torch.Tensor
    labels: torch.Tensor
    order: torch.Tensor


def data_of(job: Job) -> Data:
    """The tensors of a job; with one channel both memory formats are the same bytes."""
    return Data(images(job.inputs), torch.from_numpy(job.labels), torch.from_numpy(job.order))


def images(inputs: Any) -> torch.Tensor:
    """[..., 28, 28, 1] to [..., 1, 28, 28], without copying."""
    return torch.from_numpy(inputs).movedim(-1, -3)


def modules(job: Job, memory_format: torch.memory_format) -> list[torch.nn.Module]:
    """The job's models with their first weights: one, or one per client."""
    state = torch_models.convert(job.terms.model, job.weights)
    count = len(next(iter(state.values())))
    made = [torch_models.build(job.terms.model, job.terms.n_classes) for _ in range(count)]
    for which, model in enumerate(made):
        torch_models.load(model, state, which)
        model.to(memory_format=memory_format)
    return made


def count_parameters(model: torch.nn.Module) -> int:
    """Trainable values."""
    return sum(parameter.numel() for parameter in model.parameters())


def train(
    model: torch.nn.Module,
    parameters: list[torch.Tensor],
    data: Data,
    client: int,
    index: int,
    terms: Terms,
) -> None:
    """One epoch of plain SGD on cross entropy, in place."""
    inputs, labels = data.inputs[client], data.labels[client]
    for rows in data.order[index, client].split(terms.batch_size):
        loss = F.cross_entropy(model(inputs[rows]), labels[rows])
        descend(loss, parameters, terms.learning_rate)


def train_towards(
    model: torch.nn.Module,
    parameters: list[torch.Tensor],
    data: Data,
    client: int,
    index: int,
    terms: Terms,
    targets: torch.Tensor | None,
    sums: torch.Tensor,
    counts: torch.Tensor,
) -> None:
    """One epoch on cross entropy and the divergence from a table, adding up outputs by class.

    Args:
        model: the client's own.
        parameters: its parameters, changed in place.
        data: of all clients.
        client: which.
        index: of the round.
        terms: the numbers.
        targets: probabilities [C, C], a row of zeros for a class that has no target; None in the
            first round.
        sums: [C, C], set to the summed outputs of each class.
        counts: [C], set to the number of examples of each class.
    """
    inputs, labels = data.inputs[client], data.labels[client]
    sums.zero_()
    counts.copy_(torch.bincount(labels, minlength=len(counts)))
    for rows in data.order[index, client].split(terms.batch_size):
        batch_labels = labels[rows]
        log_p = F.log_softmax(model(inputs[rows]), 1)
        loss = F.nll_loss(log_p, batch_labels)
        if targets is not None:
            soft = F.kl_div(log_p, targets[batch_labels], reduction="batchmean")
            loss = loss + terms.kl_weight * soft
        sums.index_add_(0, batch_labels, log_p.detach().exp())
        descend(loss, parameters, terms.learning_rate)


def descend(loss: torch.Tensor, parameters: list[torch.Tensor], learning_rate: float) -> None:
    """One step of plain SGD."""
    for parameter in parameters:
        parameter.grad = None
    loss.backward()
    with torch.no_grad():
        gradients = [parameter.grad for parameter in parameters]
        torch._foreach_add_(parameters, gradients, alpha=-learning_rate)


def tables_for_clients(sums: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """What every client learns from next: the mean over the OTHER clients of their class means.

    Args:
        sums: [K, C, C], summed outputs of each class.
        counts: [K, C].

    Returns:
        Probabilities [K, C, C]; a class that nobody else holds has a row of zeros.
    """
    means = sums / counts.clamp(min=1)[:, :, None]
    holds = (counts > 0).to(means.dtype)
    others = holds.sum(0) - holds
    mean = (means.sum(0) - means) / others.clamp(min=1)[:, :, None]
    return mean.clamp(min=SMALLEST) * (others > 0)[:, :, None]


@torch.no_grad()
def accuracy(models: list[torch.nn.Module], job: Job) -> float:
    """Mean over the models of the share of test examples that each gets right."""
    inputs, labels = images(job.test_inputs), torch.from_numpy(job.test_labels)
    hits = 0
    for model in models:
        for batch, answers in zip(inputs.split(250), labels.split(250), strict=True):
            hits += int((model(batch).argmax(1) == answers).sum())
    return hits / (len(models) * len(labels))
