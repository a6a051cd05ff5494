"""The networks in PyTorch with given weights, and their weights as a job has them.

A job's kernels are [rows, columns, in, out] and [in, out], and its first dense layer counts its
inputs pixel by pixel with the channel last.
"""

from __future__ import annotations

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
import torch.nn.functional as F  # pyright: ignore[reportMissingImports]
from peers.torch_models import Cnn, ResNet
from torch import nn  # pyright: ignore[reportMissingImports]

from .architectures import convolutional
from .job import Weights


def build(architecture: tuple[str, float], weights: Weights, n_classes: int) -> nn.Module:
    """A network by name and width, with given weights."""
    name, width = architecture
    if name == "resnet8":
        model = ResNet(n_classes)
    else:
        sizes = convolutional(name, width)
        flat = sizes.side**2 * sizes.filters[1]
        model = Cnn(sizes.filters, sizes.padding, (flat, *sizes.units, n_classes))
    held = model.state_dict()
    state = {}
    for here, there in _pairs(architecture, weights).items():
        leaf, side = weights[there], _side(architecture, there)
        if leaf.ndim == 4:
            leaf = leaf.transpose(3, 2, 0, 1)
        elif leaf.ndim == 2:
            if side:
                leaf = leaf.reshape(side, side, -1, leaf.shape[-1]).transpose(2, 0, 1, 3)
                leaf = leaf.reshape(-1, leaf.shape[-1])
            leaf = leaf.T
        state[here] = torch.from_numpy(np.ascontiguousarray(leaf))
    # A shared extractor comes without a header, and never uses its own.
    model.load_state_dict(held | state)
    return model


def exported(model: nn.Module, architecture: tuple[str, float], like: Weights) -> Weights:
    """A network's weights under the names of `like`."""
    state = model.state_dict()
    found = {}
    for here, there in _pairs(architecture, like).items():
        leaf, side = state[here].contiguous().numpy(), _side(architecture, there)
        if leaf.ndim == 4:
            leaf = leaf.transpose(2, 3, 1, 0)
        elif leaf.ndim == 2:
            leaf = leaf.T
            if side:
                leaf = leaf.reshape(-1, side, side, leaf.shape[-1]).transpose(1, 2, 0, 3)
                leaf = leaf.reshape(-1, leaf.shape[-1])
        found[there] = np.ascontiguousarray(leaf)
    return found


def features(model: Cnn, x: torch.Tensor) -> torch.Tensor:
    """Images [B, 1, 28, 28] to features [B, d], which a header takes."""
    x = F.relu(F.max_pool2d(model.first(x), 2))
    x = F.relu(F.max_pool2d(model.second(x), 2)).flatten(1)
    for layer in model.dense[:-1]:
        x = F.relu(layer(x))
    return x


def _side(architecture: tuple[str, float], there: str) -> int:
    """Rows of the image that a dense layer takes; 0 for a layer that takes none."""
    if there != "extractor/Dense_0/kernel" or architecture[0] == "resnet8":
        return 0
    return convolutional(*architecture).side


def _pairs(architecture: tuple[str, float], weights: Weights) -> dict[str, str]:
    """Names here of a job's arrays."""
    if architecture[0] == "resnet8":
        layers = {"extractor/Conv_0": "first", "extractor/Norm_0": "first_norm", "head": "head"}
        for block in range(3):
            for i, layer in enumerate(("first", "second", "shortcut")):
                here, there = f"blocks.{block}.{layer}", f"extractor/Block_{block}"
                layers |= {f"{there}/Conv_{i}": here, f"{there}/Norm_{i}": f"{here}_norm"}
    else:
        layers = {
            "extractor/Conv_0": "first",
            "extractor/Conv_1": "second",
            "extractor/Dense_0": "dense.0",
            "extractor/Dense_1": "dense.1",
            "head": "dense.2",
        }
    parts = {"kernel": "weight", "scale": "weight", "bias": "bias", "offset": "bias"}
    pairs = {}
    for there in weights:
        layer, _, part = there.rpartition("/")
        pairs[f"{layers[layer]}.{parts[part]}"] = there
    return pairs
