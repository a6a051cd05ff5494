"""A ReLU network in NumPy, float64, gradients by the chain rule."""

from __future__ import annotations

import numpy as np

from .job import Terms, Weights
from .loop import Means, by_class

Layers = list[tuple[np.ndarray, np.ndarray]]
"""Kernel [in, out] and bias [out] of each dense layer, the head last."""


class NumpyNetwork:
    """Dense layers; see `loop.Network`."""

    def __init__(self, terms: Terms):
        if terms.model != "mlp":
            raise ValueError(f"model: found {terms.model!r}; allowed here: 'mlp'")
        self.terms = terms

    def load(self, weights: Weights) -> Layers:
        """Kernel and bias of every layer."""
        return [
            (_double(weights[f"{name}/kernel"]), _double(weights[f"{name}/bias"]))
            for name in _names(len(weights) // 2)
        ]

    def export(self, model: Layers) -> Weights:
        """By name, float64."""
        return {
            f"{name}/{part}": leaf
            for name, layer in zip(_names(len(model)), model, strict=True)
            for part, leaf in zip(("kernel", "bias"), layer, strict=True)
        }

    def outputs(self, model: Layers, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Features and logits."""
        activations, logits = _forward(model, inputs)
        return activations[-1], logits

    def train(self, model: Layers, batches, known: Means | None) -> tuple[Layers, Means]:
        """One epoch."""
        vectors, seen = [], []
        for inputs, labels in batches:
            activations, logits = _forward(model, inputs)
            vectors.append(activations[-1] if self.terms.method == "fedproto" else logits)
            seen.append(labels)
            model = self._step(model, activations, logits, labels, known or {})
        return model, by_class(vectors, seen)

    def _step(self, model, activations, logits, labels, known):
        terms, n = self.terms, len(labels)
        p = softmax(logits)
        at_logits = (p - np.eye(terms.n_classes)[labels]) / n
        if terms.method == "fd":
            for i, c in enumerate(labels):
                if int(c) in known:
                    at_logits[i] += terms.weight * (p[i] - softmax(known[int(c)])) / n
        kernel, bias = model[-1]
        updated = [_descend(terms, kernel, bias, activations[-1], at_logits)]
        slope = at_logits @ kernel.T
        if terms.method == "fedproto":
            size = slope.size  # the mean runs over the batch and the features
            for i, c in enumerate(labels):
                if int(c) in known:
                    apart = activations[-1][i] - known[int(c)]
                    slope[i] += 2.0 * terms.weight * apart / size
        for place in range(len(model) - 2, -1, -1):
            kernel, bias = model[place]
            slope = slope * (activations[place + 1] > 0)
            updated.append(_descend(terms, kernel, bias, activations[place], slope))
            slope = slope @ kernel.T
        return updated[::-1]


def softmax(z: np.ndarray) -> np.ndarray:
    """Over the last axis."""
    p = np.exp(z - z.max(axis=-1, keepdims=True))
    return p / p.sum(axis=-1, keepdims=True)


def _double(leaf: np.ndarray) -> np.ndarray:
    return np.array(leaf, np.float64)


def _descend(terms, kernel, bias, inputs, slope):
    rate = terms.learning_rate
    return kernel - rate * inputs.T @ slope, bias - rate * slope.sum(axis=0)


def _forward(model: Layers, inputs: np.ndarray):
    activations = [inputs.reshape(len(inputs), -1).astype(np.float64)]
    for kernel, bias in model[:-1]:
        activations.append(np.maximum(activations[-1] @ kernel + bias, 0.0))
    kernel, bias = model[-1]
    return activations, activations[-1] @ kernel + bias


def _names(n_layers: int) -> list[str]:
    return [*(f"extractor/Dense_{i}" for i in range(n_layers - 1)), "head"]
