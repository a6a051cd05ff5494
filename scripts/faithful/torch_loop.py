"""The loop in PyTorch: `python -m faithful.torch_loop JOB.npz OUTCOME.npz [THREADS]`."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
import torch.nn.functional as F  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]

from .job import Job, Terms, Weights, load_job, save_outcome
from .loop import Means, by_class, run

SMALLEST_VALID = 16  # smaller images are padded
SCORED_AT_ONCE = 1000


class Cnn(nn.Module):
    """FedAvgCNN: two 5x5 convolutions of 32 and 64 filters, ReLU, 2x2 max pooling; dense 512."""

    def __init__(self, shape: tuple[int, int, int], n_classes: int):
        super().__init__()
        height, width, channels = shape
        padding = 0 if min(height, width) >= SMALLEST_VALID else 2
        self.first = nn.Conv2d(channels, 32, 5, padding=padding)
        self.second = nn.Conv2d(32, 64, 5, padding=padding)
        self.sides = tuple(_side(_side(side, padding), padding) for side in (height, width))
        self.dense = nn.Linear(64 * self.sides[0] * self.sides[1], 512)
        self.head = nn.Linear(512, n_classes)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Images [B, channels, H, W] to [B, 512]."""
        x = F.max_pool2d(F.relu(self.first(x)), 2)
        x = F.max_pool2d(F.relu(self.second(x)), 2)
        return F.relu(self.dense(x.flatten(1)))


class Mlp(nn.Module):
    """Dense layers with ReLU."""

    def __init__(self, sizes: list[int], n_classes: int):
        super().__init__()
        self.dense = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.head = nn.Linear(sizes[-1], n_classes)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Images [B, channels, H, W] to [B, d]."""
        x = x.movedim(1, -1).flatten(1)  # pixel by pixel, as the weights count them
        for layer in self.dense:
            x = F.relu(layer(x))
        return x


class TorchNetwork:
    """See `loop.Network`."""

    def __init__(self, job: Job):
        self.terms, self.shape = job.terms, job.inputs.shape[1:]
        self.dtype = getattr(torch, job.terms.precision)

    def load(self, weights: Weights) -> nn.Module:
        """A module with given weights."""
        model = _build(self.terms, self.shape, weights).to(self.dtype)
        state = {
            here: torch.tensor(_to_torch(model, here, weights[there]), dtype=self.dtype)
            for here, there in _pairs(self.terms, weights).items()
        }
        model.load_state_dict(state)
        return model

    def export(self, model: nn.Module) -> Weights:
        """By the names of the job."""
        return {
            _there(self.terms, here): _from_torch(model, here, leaf.numpy())
            for here, leaf in model.state_dict().items()
        }

    def outputs(self, model, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Features and logits."""
        features, logits = [], []
        with torch.no_grad():
            for start in range(0, len(inputs), SCORED_AT_ONCE):
                here = model.features(_images(inputs[start : start + SCORED_AT_ONCE], self.dtype))
                features.append(here.numpy())
                logits.append(model.head(here).numpy())
        return np.concatenate(features), np.concatenate(logits)

    def train(self, model, batches, known: Means | None) -> tuple[nn.Module, Means]:
        """One epoch."""
        terms = self.terms
        optimiser = torch.optim.SGD(model.parameters(), lr=terms.learning_rate)
        vectors, seen = [], []
        for inputs, labels in batches:
            y = torch.from_numpy(labels.astype(np.int64))
            features = model.features(_images(inputs, self.dtype))
            logits = model.head(features)
            loss = F.cross_entropy(logits, y)
            if known and terms.method == "fd":
                target = _known_or_own(known, labels, logits.detach())
                loss = loss + terms.weight * F.cross_entropy(logits, target.softmax(dim=1))
            if known and terms.method == "fedproto":
                target = _known_or_own(known, labels, features.detach())
                loss = loss + terms.weight * F.mse_loss(features, target)
            sent = features if terms.method == "fedproto" else logits
            vectors.append(sent.detach().numpy())
            seen.append(labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        return model, by_class(vectors, seen)


def _known_or_own(known: Means, labels: np.ndarray, own: torch.Tensor) -> torch.Tensor:
    """[B, m]: the mean of each example's class, or its own output, which pulls nowhere."""
    target = own.clone()
    for i, c in enumerate(labels):
        if int(c) in known:
            target[i] = torch.from_numpy(known[int(c)]).to(own.dtype)
    return target


def _build(terms: Terms, shape, weights: Weights) -> nn.Module:
    if terms.model == "fedavg_cnn":
        return Cnn(shape, terms.n_classes)
    kernels = [weights[name] for name in sorted(weights) if "Dense" in name and "kernel" in name]
    return Mlp([kernels[0].shape[0], *(kernel.shape[1] for kernel in kernels)], terms.n_classes)


def _images(inputs: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
    return torch.from_numpy(inputs).movedim(-1, 1).to(dtype)


def _side(side: int, padding: int) -> int:
    return (side + 2 * padding - 4) // 2


def _there(terms: Terms, here: str) -> str:
    """The job's name of one of a module's arrays."""
    layer, _, part = here.rpartition(".")
    names = {"first": "Conv_0", "second": "Conv_1", "dense": "Dense_0"}
    if layer != "head":
        place = names[layer] if terms.model == "fedavg_cnn" else layer.replace("dense.", "Dense_")
        layer = f"extractor/{place}"
    return f"{layer}/{'kernel' if part == 'weight' else 'bias'}"


def _pairs(terms: Terms, weights: Weights) -> dict[str, str]:
    """Names here of the job's arrays."""
    layers = len(weights) // 2 - 1
    here = ["first", "second", "dense"]
    if terms.model != "fedavg_cnn":
        here = [f"dense.{i}" for i in range(layers)]
    found = [f"{layer}.{part}" for layer in [*here, "head"] for part in ("weight", "bias")]
    return {name: _there(terms, name) for name in found}


def _to_torch(model: nn.Module, here: str, leaf: np.ndarray) -> np.ndarray:
    if leaf.ndim == 4:
        return np.ascontiguousarray(leaf.transpose(3, 2, 0, 1))
    if here == "dense.weight" and isinstance(model, Cnn):
        leaf = leaf.reshape(*model.sides, -1, leaf.shape[-1]).transpose(2, 0, 1, 3)
        leaf = leaf.reshape(-1, leaf.shape[-1])
    return np.ascontiguousarray(leaf.T)


def _from_torch(model: nn.Module, here: str, leaf: np.ndarray) -> np.ndarray:
    if leaf.ndim == 4:
        return leaf.transpose(2, 3, 1, 0).copy()
    leaf = leaf.T
    if here == "dense.weight" and isinstance(model, Cnn):
        leaf = leaf.reshape(-1, *model.sides, leaf.shape[-1]).transpose(1, 2, 0, 3)
        leaf = leaf.reshape(-1, leaf.shape[-1])
    return leaf.copy()


def main(job: str, outcome: str, threads: str = "2") -> None:
    """Runs a job."""
    torch.set_num_threads(int(threads))
    loaded = load_job(Path(job))
    save_outcome(Path(outcome), run(loaded, TorchNetwork(loaded)))


if __name__ == "__main__":
    main(*sys.argv[1:])
