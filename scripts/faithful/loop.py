"""The rounds of FedAvg, FD and FedProto as HtFLlib runs them, in Python loops over dictionaries.

Nothing of the package is used. A network, in NumPy or PyTorch, computes; this file says what with:
evaluation before training, every client in turn, batches in the order of its examples without the
incomplete last one, class means of what comes by while training, and plain means of those over the
clients that hold a class. FedAvg, which HtFLlib does not have, is PFLlib's, with its weights n_k.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np

from .job import Job, Outcome, Terms, Weights

Means = dict[int, np.ndarray]
"""By class, a vector; classes that nobody holds are missing."""


class Network(Protocol):
    """What computes. Models are its own objects."""

    def load(self, weights: Weights) -> Any:
        """A model with given weights."""
        ...

    def export(self, model: Any) -> Weights:
        """A model's weights."""
        ...

    def train(
        self, model: Any, batches: Iterable[tuple[np.ndarray, np.ndarray]], known: Means | None
    ) -> tuple[Any, Means]:
        """One epoch of SGD: the model, and class means of logits (FD) or features (FedProto)."""
        ...

    def outputs(self, model: Any, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Features [B, d] and logits [B, C]."""
        ...


def run(job: Job, network: Network) -> Outcome:
    """All rounds of a job."""
    terms, n_clients = job.terms, len(job.train)
    alone = terms.method != "fedavg"
    models = [network.load(_row(job.weights, k)) for k in range(n_clients if alone else 1)]
    known: Means | None = None
    accuracy, parameters = [], []
    for number in range(terms.rounds):
        accuracy.append(evaluate(job, network, models, known))
        sent, trained = [], []
        for k in range(n_clients):
            model = models[k] if alone else network.load(network.export(models[0]))
            model, means = network.train(model, batches(job, k), known)
            trained.append(model)
            sent.append(means)
        if alone:
            models, known = trained, mean_over_holders(sent)
        else:
            sizes = [len(rows) for rows in job.train]
            models = [network.load(weighted_mean([network.export(m) for m in trained], sizes))]
        if number < terms.checked:
            leaves = [network.export(model) for model in models]
            parameters.append({name: np.stack([w[name] for w in leaves]) for name in leaves[0]})
    accuracy.append(evaluate(job, network, models, known))
    return Outcome(np.array(accuracy), parameters)


def batches(job: Job, k: int) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    """A client's whole batches, in order."""
    rows, size = job.train[k], job.terms.batch_size
    for start in range(0, len(rows) - size + 1, size):
        taken = rows[start : start + size]
        yield examples(job, taken), job.labels[taken]


def examples(job: Job, rows: np.ndarray) -> np.ndarray:
    """Normalised inputs, float32."""
    return (job.inputs[rows].astype(np.float32) - job.mean) / job.std


def evaluate(job: Job, network: Network, models: list, known: Means | None) -> float:
    """Share of correct predictions over the test examples of all clients."""
    correct = total = 0
    for k, rows in enumerate(job.test):
        model = models[k if len(models) > 1 else 0]
        features, logits = network.outputs(model, examples(job, rows))
        correct += int(np.sum(predictions(job.terms, features, logits, known) == job.labels[rows]))
        total += len(rows)
    return correct / total


def predictions(
    terms: Terms, features: np.ndarray, logits: np.ndarray, known: Means | None
) -> np.ndarray:
    """The predicted classes; FedProto's are the nearest means', and -1 before there are any."""
    if terms.method != "fedproto":
        return logits.argmax(axis=1)
    if not known:
        return np.full(len(logits), -1)
    distance = np.full(logits.shape, np.inf)
    for c, vector in known.items():
        distance[:, c] = np.mean((features - vector) ** 2, axis=1)
    return distance.argmin(axis=1)


def mean_over_holders(sent: list[Means]) -> Means:
    """The plain mean over the clients that have a class."""
    classes = sorted(set().union(*sent))
    return {c: np.mean([means[c] for means in sent if c in means], axis=0) for c in classes}


def weighted_mean(weights: list[Weights], sizes: list[int]) -> Weights:
    """Of models, by the examples of their clients."""
    shares = np.array(sizes) / sum(sizes)
    found = {}
    for name in weights[0]:
        leaves = np.stack([held[name] for held in weights])
        found[name] = np.tensordot(shares.astype(leaves.dtype), leaves, axes=1)
    return found


def by_class(vectors: list[np.ndarray], labels: list[np.ndarray]) -> Means:
    """Class means of vectors that came in batches [B, m] with labels [B]."""
    if not vectors:
        return {}
    stacked, classes = np.concatenate(vectors), np.concatenate(labels)
    return {int(c): stacked[classes == c].mean(axis=0) for c in np.unique(classes)}


def _row(weights: Weights, k: int) -> Weights:
    return {name: leaf[k] for name, leaf in weights.items()}
