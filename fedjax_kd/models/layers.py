"""The layers that architectures are made of, over the kernels of `fedjax_kd.kernels`."""

from __future__ import annotations

import math
from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from fedjax_kd import kernels

Initialiser = Literal["fan_in_uniform", "glorot_uniform"]
NormKind = Literal["group", "batch"]


def kernel_bound(initialiser: Initialiser, shape: tuple[int, ...]) -> float:
    """Half-width of the uniform distribution that a kernel [..., in, out] starts from.

    `fan_in_uniform`: 1 / sqrt(fan_in), PyTorch's default for convolutions and dense layers.
    `glorot_uniform`: sqrt(6 / (fan_in + fan_out)), Glorot and Bengio 2010, Keras's default.
    """
    fan_in, fan_out = math.prod(shape[:-1]), math.prod(shape[:-2]) * shape[-1]
    if initialiser == "glorot_uniform":
        return math.sqrt(6.0 / (fan_in + fan_out))
    return 1.0 / math.sqrt(fan_in)


def _bias_bound(initialiser: Initialiser, kernel_shape: tuple[int, ...]) -> float:
    """As `kernel_bound`, for the bias: the kernel's in PyTorch, zero in Keras."""
    if initialiser == "glorot_uniform":
        return 0.0
    return kernel_bound(initialiser, kernel_shape)


def uniform_parameter(
    module: nn.Module, name: str, shape: tuple[int, ...], bound: float
) -> jax.Array:
    """A parameter that starts uniform in +-bound.

    The layer itself sets it to zero and notes the bound in the collection `bounds`; `Model.init`
    draws all parameters of a network at once. One draw compiles many times faster than one a layer.
    """
    if module.is_initializing():
        module.variable("bounds", name, lambda: jnp.float32(bound))
    return module.param(name, nn.initializers.zeros_init(), shape)


class Dense(nn.Module):
    """An affine map of vectors: [B, F] to [B, features]."""

    features: int
    initialiser: Initialiser = "fan_in_uniform"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Vectors [B, F] to [B, features]."""
        shape = (x.shape[1], self.features)
        bias = uniform_parameter(self, "bias", shape[1:], _bias_bound(self.initialiser, shape))
        held = None if self.is_initializing() else self.get_variable("params", "kernel")
        if isinstance(held, kernels.InPlace):
            y = kernels.dense_sgd(x, held.value, held.learning_rate, held.decay)
        else:
            bound = kernel_bound(self.initialiser, shape)
            y = kernels.dense(x, uniform_parameter(self, "kernel", shape, bound))
        return y + bias[None, :]


class Conv(nn.Module):
    """A convolution, then max pooling if `pool` is given, a bias if `use_bias`, ReLU if `relu`.

    Pooling comes before the bias: a constant per channel moves the maximum by just that constant,
    and there are fewer elements left to add it to.
    """

    features: int
    window: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: Literal["SAME", "VALID"] = "SAME"
    pool: tuple[int, int] | None = None
    use_bias: bool = True
    relu: bool = False
    initialiser: Initialiser = "fan_in_uniform"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Images [B, H, W, channels] to [B, H', W', features]."""
        shape = (*self.window, x.shape[3], self.features)
        kernel = uniform_parameter(self, "kernel", shape, kernel_bound(self.initialiser, shape))
        y = kernels.conv2d(x, kernel, stride=self.stride, padding=self.padding)
        bias = None
        if self.use_bias:
            bias = uniform_parameter(self, "bias", shape[3:], _bias_bound(self.initialiser, shape))
        if self.pool is not None and self.relu and bias is not None:
            return kernels.pool_bias_relu(y, bias, self.pool)
        if self.pool is not None:
            y = kernels.max_pool(y, self.pool)
        if bias is not None:
            y = y + bias[None, None, None, :]
        return nn.relu(y) if self.relu else y


class Norm(nn.Module):
    """Group or batch normalisation of images, with a scale and an offset per channel.

    Group normalisation uses the largest number of groups up to 8 that divides the channels (our
    choice). Batch normalisation has Keras's defaults (momentum 0.99, epsilon 1e-3), as the code of
    arXiv:2503.11151 has; it keeps running statistics in the collection `stats`.
    """

    kind: NormKind
    scale_init: float = 1.0

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, mask: jax.Array | None) -> jax.Array:
        """Images [B, H, W, C] to the same shape; `mask` [B] marks the examples that are real."""
        channels = x.shape[3]
        scale = self.param("scale", nn.initializers.constant(self.scale_init), (channels,))
        offset = self.param("offset", nn.initializers.zeros_init(), (channels,))
        if self.kind == "group":
            return kernels.group_norm(x, scale, offset, group_count(channels))
        mean = self.variable("stats", "mean", jnp.zeros, (channels,), jnp.float32)
        variance = self.variable("stats", "variance", jnp.ones, (channels,), jnp.float32)
        running = kernels.BatchStatistics(mean.value, variance.value)
        y, moved = kernels.batch_norm(x, scale, offset, running, train=train, mask=mask)
        if train and not self.is_initializing():
            mean.value, variance.value = moved
        return y


def group_count(channels: int) -> int:
    """The largest number of groups up to 8 that divides the channels."""
    return max(groups for groups in range(1, min(8, channels) + 1) if channels % groups == 0)


def scaled(size: int, width: float) -> int:
    """A layer's size times the width ratio, rounded, at least 1."""
    return max(1, round(size * width))
