"""The networks in Flax, as its users write them: `nn.Conv`, `nn.max_pool`, `nn.GroupNorm`."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from .architectures import convolutional
from .job import Weights

GROUPS, EPSILON = 8, 1e-5
Parameters = dict[str, Any]


class Cnn(nn.Module):
    """Two 5x5 convolutions with 2x2 max pooling and ReLU, two dense layers, a header."""

    filters: tuple[int, int]
    padding: int
    units: tuple[int, int]
    n_classes: int

    def setup(self) -> None:
        """Layers."""
        paddings = (self.padding, 0)
        self.conv = [
            nn.Conv(size, (5, 5), padding=pixels)
            for size, pixels in zip(self.filters, paddings, strict=True)
        ]
        self.dense = [nn.Dense(size) for size in self.units]
        self.head = nn.Dense(self.n_classes)

    def features(self, x: jax.Array) -> jax.Array:
        """Images [B, 28, 28, 1] to features [B, d]."""
        for layer in self.conv:
            # ReLU after the pooling, which gives the same values with a quarter of the work.
            x = nn.relu(nn.max_pool(layer(x), (2, 2), (2, 2)))
        x = x.reshape(len(x), -1)
        for layer in self.dense:
            x = nn.relu(layer(x))
        return x

    def classify(self, features: jax.Array) -> jax.Array:
        """Features [B, d] to logits [B, C]."""
        return self.head(features)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Images [B, 28, 28, 1] to logits [B, C]."""
        return self.classify(self.features(x))


class Block(nn.Module):
    """Two 3x3 convolutions with group normalisation, added to a normalised 1x1 shortcut."""

    filters: int
    stride: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Images [B, H, W, channels] to [B, H / stride, W / stride, filters]."""
        strides = (self.stride, self.stride)
        y = nn.Conv(self.filters, (3, 3), strides, use_bias=False)(x)
        y = nn.relu(nn.GroupNorm(GROUPS, epsilon=EPSILON)(y))
        y = nn.Conv(self.filters, (3, 3), use_bias=False)(y)
        y = nn.GroupNorm(GROUPS, epsilon=EPSILON)(y)
        shortcut = nn.Conv(self.filters, (1, 1), strides, use_bias=False)(x)
        return nn.relu(y + nn.GroupNorm(GROUPS, epsilon=EPSILON)(shortcut))


class ResNet(nn.Module):
    """A 3x3 convolution, three blocks of 16, 32 and 64 filters, the mean over pixels."""

    n_classes: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Images [B, 28, 28, 1] to logits [B, C]."""
        x = nn.Conv(16, (3, 3), use_bias=False)(x)
        x = nn.relu(nn.GroupNorm(GROUPS, epsilon=EPSILON)(x))
        for filters, stride in ((16, 1), (32, 2), (64, 2)):
            x = Block(filters, stride)(x)
        return nn.Dense(self.n_classes, name="head")(jnp.mean(x, (1, 2)))


def build(architecture: tuple[str, float], n_classes: int) -> nn.Module:
    """A network by name and width."""
    name, width = architecture
    if name == "resnet8":
        return ResNet(n_classes)
    sizes = convolutional(name, width)
    return Cnn(sizes.filters, sizes.padding, sizes.units, n_classes)


def logits_of(network: nn.Module, params: Parameters, x: jax.Array) -> jax.Array:
    """Logits [B, C] of images [B, 28, 28, 1]."""
    return network.apply({"params": params}, x)  # pyright: ignore[reportReturnType]


def features_of(network: nn.Module, params: Parameters, x: jax.Array) -> jax.Array:
    """Features [B, d] of images [B, 28, 28, 1], of a `Cnn`."""
    return network.apply({"params": params}, x, method="features")  # pyright: ignore[reportReturnType]


def classified(network: nn.Module, params: Parameters, features: jax.Array) -> jax.Array:
    """Logits [B, C] of features [B, d], by the header of a `Cnn`."""
    return network.apply({"params": params}, features, method="classify")  # pyright: ignore[reportReturnType]


def _renamed(key: str, backwards: bool) -> str:
    """`extractor/Conv_0/kernel` is `conv_0/kernel` here, and in the ResNet `Conv_0/kernel`."""
    pairs = [("Norm_", "GroupNorm_"), ("offset", "bias")]
    if backwards:
        last = key.rpartition("/")[2]
        if "GroupNorm_" in key:
            key = key.replace("GroupNorm_", "Norm_")
            key = key.removesuffix("bias") + "offset" if last == "bias" else key
        key = key.replace("conv_", "Conv_").replace("dense_", "Dense_")
        return key if key.startswith("head/") else f"extractor/{key}"
    key = key.removeprefix("extractor/")
    for there, here in pairs:
        key = key.replace(there, here)
    return key


def parameters(architecture: tuple[str, float], weights: Weights) -> Parameters:
    """A job's weights of one model as Flax parameters."""
    plain = architecture[0] != "resnet8"
    found = {}
    for key, leaf in weights.items():
        here = _renamed(key, backwards=False)
        if plain:
            here = here.replace("Conv_", "conv_").replace("Dense_", "dense_")
        found[here] = jnp.asarray(leaf)
    return unflatten_dict(found, sep="/")


def exported(params: Parameters) -> Weights:
    """The inverse of `parameters`."""
    flat = flatten_dict(params, sep="/")
    return {_renamed(key, backwards=True): np.asarray(leaf) for key, leaf in flat.items()}
