"""What all contestants are given: examples, first weights, and who does what in which order.

A job is one method. The driver makes it once and writes it to a file; every contestant reads the
same file. Needs NumPy only, so that it can be read under any interpreter.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

Weights = dict[str, np.ndarray]


@dataclass(frozen=True)
class Terms:
    """The numbers that define the work.

    Attributes:
        method: `on_device_kd`, `dfml` or `pfedafm`.
        architectures: name and width of each. On-device KD: auxiliary and target. DFML and pFedAFM:
            those that clients get by turns.
        shared: pFedAFM's shared extractor is that of this architecture; else empty.
        clients: K.
        examples: of each client, n; a multiple of the batch size.
        batch_size: B.
        passes: epochs of a phase; of on-device KD steps of a phase, H.
        strong: on-device KD: clients 0, 1, ... that train the target; else 0.
        soft_examples: on-device KD: unlabelled examples of a strong client; else 0.
        chosen: clients drawn in a round: on-device KD's for the auxiliary, DFML's pool with its
            aggregator; else all.
        learning_rate: of SGD, for all parts.
        momentum: likewise.
        weight_decay: likewise; scales and offsets of normalisation are spared.
        gradient_clip: largest norm of a part's gradient; 0 for none.
        temperature: of distillation.
        n_classes: C.
        seed: of everything drawn.
        first_round: number of the first round, for what changes over the rounds.
    """

    method: str
    architectures: tuple[tuple[str, float], ...]
    shared: tuple[str, float] | tuple[()]
    clients: int
    examples: int
    batch_size: int
    passes: int
    strong: int
    soft_examples: int
    chosen: int
    learning_rate: float
    momentum: float
    weight_decay: float
    gradient_clip: float
    temperature: float
    n_classes: int
    seed: int
    first_round: int

    @property
    def steps(self) -> int:
        """Optimiser steps of one model in one phase."""
        if self.method == "on_device_kd":
            return self.passes
        return self.passes * (self.examples // self.batch_size)

    @property
    def model_steps(self) -> int:
        """Optimiser steps of a round, over all models and phases."""
        models = {
            "on_device_kd": self.chosen + 2 * self.strong,
            "dfml": self.chosen,
            "pfedafm": 2 * self.clients,
        }
        return self.steps * models[self.method]


@dataclass(frozen=True, eq=False)
class Job:
    """One method on K clients for R rounds.

    Attributes:
        terms: the numbers.
        arrays: all of them `inputs` float32 [K, n, 28, 28, 1] (normalised), `labels` int64 [K, n],
            `test_inputs` float32 [T, 28, 28, 1], `test_labels` int64 [T], and by method, with
            batches as positions among a client's own examples, int64 [..., H, B]:

            - on-device KD: `soft_inputs` float32 [strong, u, 28, 28, 1]; `chosen` int64 [R, m];
              `weight` float32 [R], of the soft loss; `auxiliary_order` [R, m, H, B], `target_order`
              and `soft_order` [R, strong, H, B];
            - DFML: `chosen` int64 [R, M], the aggregator first; `alpha` float32 [R]; `order`
              [R, H, B];
            - pFedAFM: `personal_order` and `shared_order` [R, K, H, B].
        weights: first parameters, as `MODEL/LAYER/.../NAME`; MODEL is `auxiliary`, `target`,
            `client<k>` or `shared`.
    """

    terms: Terms
    arrays: dict[str, np.ndarray]
    weights: Weights

    def model(self, name: str) -> Weights:
        """First parameters of one model, by layer and name."""
        return of_model(self.weights, name)


def of_model(weights: Weights, name: str) -> Weights:
    """One model's share of the weights of several."""
    prefix = f"{name}/"
    return {
        key.removeprefix(prefix): leaf for key, leaf in weights.items() if key.startswith(prefix)
    }


def named(name: str, weights: Weights) -> Weights:
    """The inverse of `of_model`."""
    return {f"{name}/{key}": leaf for key, leaf in weights.items()}


def save_job(path: Path, job: Job) -> None:
    """Writes a job to an .npz file."""
    arrays = {f"arrays/{name}": array for name, array in job.arrays.items()}
    terms = np.array(json.dumps(asdict(job.terms)))
    np.savez(path, terms=terms, **arrays, **named("weights", job.weights))  # pyright: ignore[reportArgumentType]


def load_job(path: Path) -> Job:
    """Reads what `save_job` wrote."""
    with np.load(path) as file:
        found = json.loads(str(file["terms"]))
        found["architectures"] = tuple((name, width) for name, width in found["architectures"])
        found["shared"] = tuple(found["shared"])
        everything = {name: file[name] for name in file.files if name != "terms"}
    return Job(Terms(**found), of_model(everything, "arrays"), of_model(everything, "weights"))
