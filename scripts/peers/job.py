"""What all contestants are given: the clients' examples, the first weights, the batches' order.

A job is one model trained by one method. The driver makes it once and writes it to a file; every
contestant reads the same file. Needs NumPy only, so that it can be read under any interpreter.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

Weights = dict[str, np.ndarray]


@dataclass(frozen=True)
class Terms:
    """The numbers that define the work.

    Attributes:
        model: `cnn1`, `lenet`, `mlp` or `resnet8`.
        method: `fedavg` or `fd`.
        batch_size: examples per local step; divides the examples of a client.
        learning_rate: of plain SGD on the clients.
        kl_weight: of the divergence from the table of class means; `fd` only.
        n_classes: C.
        seed: of partition, first weights and batch order.
    """

    model: str
    method: str
    batch_size: int
    learning_rate: float
    kl_weight: float
    n_classes: int
    seed: int


@dataclass(frozen=True, eq=False)
class Job:
    """One model trained by one method on K clients of n examples each.

    Attributes:
        terms: the numbers.
        inputs: float32 [K, n, 28, 28, 1], normalised.
        labels: int64 [K, n].
        rows: int32 [K, n], which rows of the data set those are.
        order: int64 [R, K, n], the order in which client k visits its examples in round r.
        test_inputs: float32 [T, 28, 28, 1], normalised.
        test_labels: int64 [T].
        test_rows: int32 [T].
        weights: first parameters by name, [V, ...]; V is 1, or K where every client has a model.
    """

    terms: Terms
    inputs: np.ndarray
    labels: np.ndarray
    rows: np.ndarray
    order: np.ndarray
    test_inputs: np.ndarray
    test_labels: np.ndarray
    test_rows: np.ndarray
    weights: Weights = field(default_factory=dict)

    @property
    def n_clients(self) -> int:
        """K."""
        return self.labels.shape[0]

    @property
    def n_examples(self) -> int:
        """Examples of one client, n."""
        return self.labels.shape[1]

    @property
    def n_steps(self) -> int:
        """Local steps of one client in one round."""
        return self.n_examples // self.terms.batch_size

    @property
    def n_parameters(self) -> int:
        """Parameters of one model."""
        return sum(leaf[0].size for leaf in self.weights.values())


_ARRAYS = ("inputs", "labels", "rows", "order", "test_inputs", "test_labels", "test_rows")


def save_job(path: Path, job: Job) -> None:
    """Writes a job to an .npz file."""
    arrays = {name: getattr(job, name) for name in _ARRAYS}
    weights = {f"weights/{name}": leaf for name, leaf in job.weights.items()}
    terms = np.array(json.dumps(asdict(job.terms)))
    np.savez(path, **{"terms": terms}, **arrays, **weights)  # pyright: ignore[reportArgumentType]


def load_job(path: Path) -> Job:
    """Reads what `save_job` wrote."""
    with np.load(path) as file:
        terms = Terms(**json.loads(str(file["terms"])))
        arrays = {name: file[name] for name in _ARRAYS}
        weights = {
            name.removeprefix("weights/"): file[name]
            for name in file.files
            if name.startswith("weights/")
        }
    return Job(terms=terms, weights=weights, **arrays)
