"""The four models in PyTorch, written as its users would, started from given weights.

The weights come as arrays by name in the layout of the arrays of a job: kernels [rows, columns, in,
out] of convolutions, [in, out] of dense layers; the first dense layer counts its inputs pixel by
pixel with the channel last.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
import torch.nn.functional as F  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]

GROUPS = 8


class Cnn(nn.Module):
    """Two 5x5 convolutions with 2x2 max pooling and ReLU, then dense layers."""

    def __init__(self, filters: tuple[int, int], first_padding: int, sizes: tuple[int, ...]):
        super().__init__()
        self.first = nn.Conv2d(1, filters[0], 5, padding=first_padding)
        self.second = nn.Conv2d(filters[0], filters[1], 5)
        self.dense = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))

    def forward(self, x):
        """Images [B, 1, 28, 28] to logits [B, C]."""
        # ReLU after the pooling, which gives the same values with a quarter of the work.
        x = F.relu(F.max_pool2d(self.first(x), 2))
        x = F.relu(F.max_pool2d(self.second(x), 2))
        return _dense(self.dense, x.flatten(1))


class Mlp(nn.Module):
    """Dense layers with ReLU."""

    def __init__(self, sizes: tuple[int, ...]):
        super().__init__()
        self.dense = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))

    def forward(self, x):
        """Images [B, 1, 28, 28] to logits [B, C]."""
        return _dense(self.dense, x.flatten(1))


class Block(nn.Module):
    """Two 3x3 convolutions with group normalisation, added to a normalised 1x1 shortcut.

    A halving convolution is padded by one pixel on every side, PyTorch's way. "Same" padding, which
    pads the end only, would take a copy of the image that made a step up to a tenth slower.
    """

    def __init__(self, before: int, after: int, stride: int):
        super().__init__()
        self.first = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.first_norm = nn.GroupNorm(GROUPS, after)
        self.second = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.second_norm = nn.GroupNorm(GROUPS, after)
        self.shortcut = nn.Conv2d(before, after, 1, stride, bias=False)
        self.shortcut_norm = nn.GroupNorm(GROUPS, after)

    def forward(self, x):
        """Images [B, before, H, W] to [B, after, H / stride, W / stride]."""
        y = F.relu(self.first_norm(self.first(x)))
        y = self.second_norm(self.second(y))
        return F.relu(y + self.shortcut_norm(self.shortcut(x)))


class ResNet(nn.Module):
    """A 3x3 convolution, three blocks of 16, 32 and 64 filters, the mean over pixels."""

    def __init__(self, n_classes: int):
        super().__init__()
        self.first = nn.Conv2d(1, 16, 3, padding=1, bias=False)
        self.first_norm = nn.GroupNorm(GROUPS, 16)
        self.blocks = nn.Sequential(Block(16, 16, 1), Block(16, 32, 2), Block(32, 64, 2))
        self.head = nn.Linear(64, n_classes)

    def forward(self, x):
        """Images [B, 1, 28, 28] to logits [B, C]."""
        x = F.relu(self.first_norm(self.first(x)))
        return self.head(self.blocks(x).mean((2, 3)))


def _dense(layers: nn.ModuleList, x):
    for layer in layers[:-1]:
        x = F.relu(layer(x))
    return layers[-1](x)


def build(name: str, n_classes: int) -> nn.Module:
    """A model for images of 28 x 28 pixels and one channel.

    Raises:
        ValueError: if the name is unknown.
    """
    match name:
        case "cnn1":
            return Cnn((16, 32), 0, (4 * 4 * 32, 2000, 500, n_classes))
        case "lenet":
            return Cnn((6, 16), 2, (5 * 5 * 16, 120, 84, n_classes))
        case "mlp":
            return Mlp((784, 256, 128, n_classes))
        case "resnet8":
            return ResNet(n_classes)
    raise ValueError(f"model must be cnn1, lenet, mlp or resnet8; got {name!r}")


def _pairs(name: str) -> list[tuple[str, str]]:
    """Layers of a model as (name here, name in the job)."""
    if name == "resnet8":
        pairs = [("first", "extractor/Conv_0"), ("first_norm", "extractor/Norm_0")]
        for block in range(3):
            for i, layer in enumerate(("first", "second", "shortcut")):
                here, there = f"blocks.{block}.{layer}", f"extractor/Block_{block}"
                pairs += [(here, f"{there}/Conv_{i}"), (f"{here}_norm", f"{there}/Norm_{i}")]
        return [*pairs, ("head", "head")]
    dense = [("dense.0", "extractor/Dense_0"), ("dense.1", "extractor/Dense_1")]
    if name == "mlp":
        return [*dense, ("dense.2", "head")]
    convolutions = [("first", "extractor/Conv_0"), ("second", "extractor/Conv_1")]
    return [*convolutions, *dense, ("dense.2", "head")]


def convert(name: str, weights: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """A job's weights [V, ...] as a state dictionary of PyTorch tensors [V, ...].

    Raises:
        ValueError: if an array of the job has no place in the model.
    """
    filters = {"cnn1": 32, "lenet": 16}.get(name)
    found = {}
    left = set(weights)
    for here, there in _pairs(name):
        for part, theirs in (
            ("weight", "kernel"),
            ("weight", "scale"),
            ("bias", "bias"),
            ("bias", "offset"),
        ):
            key = f"{there}/{theirs}"
            if key not in weights:
                continue
            leaf = weights[key]
            if leaf.ndim == 5:
                leaf = leaf.transpose(0, 4, 3, 1, 2)
            elif leaf.ndim == 3 and filters and there == "extractor/Dense_0":
                side = int((leaf.shape[1] // filters) ** 0.5)
                leaf = leaf.reshape(len(leaf), side, side, filters, -1)
                leaf = leaf.transpose(0, 4, 3, 1, 2).reshape(len(leaf), leaf.shape[-1], -1)
            elif leaf.ndim == 3:
                leaf = leaf.transpose(0, 2, 1)
            found[f"{here}.{part}"] = torch.from_numpy(np.ascontiguousarray(leaf))
            left.remove(key)
    if left:
        raise ValueError(f"model {name!r} has no place for {sorted(left)}")
    return found


def load(model: nn.Module, state: dict[str, torch.Tensor], which: int) -> None:
    """Copies model `which` of a stacked state dictionary into a module."""
    model.load_state_dict({key: leaf[which] for key, leaf in state.items()})
