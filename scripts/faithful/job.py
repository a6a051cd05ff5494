"""What all sides of the comparison are given, as one file: examples, who holds what, first weights.

No JAX here: the loops in PyTorch and NumPy import this module.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

METHODS = {"fedavg": "FedAvg", "fd": "FD", "fedproto": "FedProto"}
Weights = dict[str, np.ndarray]
"""Arrays by name: kernels [rows, columns, in, out] and [in, out]; pixels count before channels."""


@dataclass(frozen=True)
class Terms:
    """The numbers of a comparison; their defaults are those of HtFLlib's scripts.

    Attributes:
        method: a key of `METHODS`.
        model: `fedavg_cnn` or `mlp`.
        rounds: R.
        checked: after how many of the first rounds parameters are compared.
        n_classes: C.
        batch_size: examples per step; what does not fill a batch is left out.
        learning_rate: of plain SGD, one local epoch.
        weight: of the soft loss of FD, of the distance of FedProto; not read by FedAvg.
        precision: of the loop in PyTorch, `float32` or `float64`.
    """

    method: str
    model: str
    rounds: int
    checked: int
    n_classes: int
    batch_size: int = 10
    learning_rate: float = 0.01
    weight: float = 1.0
    precision: str = "float32"


class Job(NamedTuple):
    """A comparison.

    Attributes:
        terms: the numbers.
        inputs: [E, H, W, channels], as stored.
        mean: float32 [1, 1, channels], to be taken off inputs.
        std: float32 [1, 1, channels], to divide by then.
        labels: int32 [E].
        train: int32 [n_k] for each of K clients, in the order in which they are visited.
        test: int32 [m_k] for each.
        weights: first weights, [K, ...]; for FedAvg [1, ...].
    """

    terms: Terms
    inputs: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    labels: np.ndarray
    train: list[np.ndarray]
    test: list[np.ndarray]
    weights: Weights


class Outcome(NamedTuple):
    """What one side found.

    Attributes:
        accuracy: float64 [R + 1], over the test examples of all clients, before each round's
            training and after the last.
        parameters: one for each checked round, [K, ...] or [1, ...], as it left them.
    """

    accuracy: np.ndarray
    parameters: list[Weights]


def save_job(path: Path, job: Job) -> None:
    """Writes a job."""
    arrays = {"inputs": job.inputs, "mean": job.mean, "std": job.std, "labels": job.labels}
    for name in ("train", "test"):
        parts = getattr(job, name)
        arrays[name] = np.concatenate(parts)
        arrays[f"{name}_ends"] = np.cumsum([len(part) for part in parts])
    arrays |= {f"weights/{name}": leaf for name, leaf in job.weights.items()}
    arrays["terms"] = np.array(json.dumps(asdict(job.terms)))
    _save(path, arrays)


def load_job(path: Path) -> Job:
    """Reads a job."""
    with np.load(path) as file:
        held = dict(file)
    parts = {name: np.split(held[name], held[f"{name}_ends"][:-1]) for name in ("train", "test")}
    return Job(
        terms=Terms(**json.loads(str(held["terms"]))),
        inputs=held["inputs"],
        mean=held["mean"],
        std=held["std"],
        labels=held["labels"],
        train=parts["train"],
        test=parts["test"],
        weights=_under("weights/", held),
    )


def save_outcome(path: Path, outcome: Outcome) -> None:
    """Writes what one side found."""
    arrays = {
        f"{index}/{name}": leaf
        for index, weights in enumerate(outcome.parameters)
        for name, leaf in weights.items()
    }
    arrays["accuracy"] = outcome.accuracy
    _save(path, arrays)


def load_outcome(path: Path) -> Outcome:
    """Reads it."""
    with np.load(path) as file:
        held = dict(file)
    accuracy = held.pop("accuracy")
    n_checked = len({name.split("/")[0] for name in held})
    return Outcome(accuracy, [_under(f"{index}/", held) for index in range(n_checked)])


def _save(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    np.savez(path, allow_pickle=False, **arrays)


def _under(start: str, held: Mapping[str, np.ndarray]) -> Weights:
    return {name.removeprefix(start): a for name, a in held.items() if name.startswith(start)}
