"""Batch normalisation with its own gradient, for batches of which some rows are padding.

XLA's CPU backend reduces slowly over axes that are not the last, so the sums over examples and
pixels are products with a vector, of the pixels' weights or of ones.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from fedjax_kd.kernels.manual_axes import vary_alike


class BatchStatistics(NamedTuple):
    """Running statistics of one batch normalisation."""

    mean: jax.Array  # [C]
    variance: jax.Array  # [C]


def batch_norm(
    x: jax.Array,
    scale: jax.Array,
    offset: jax.Array,
    running: BatchStatistics,
    *,
    train: bool,
    mask: jax.Array | None = None,
    momentum: float = 0.99,
    epsilon: float = 1e-3,
) -> tuple[jax.Array, BatchStatistics]:
    """Normalises each channel over the examples and pixels of the batch (Ioffe and Szegedy 2015).

    In training, mean and variance are those of the examples that `mask` marks; the others are
    normalised with them but do not enter them. Running statistics move by
    `running = momentum * running + (1 - momentum) * batch`; a batch without a marked example leaves
    them as they are. No gradient flows through the running statistics. Otherwise the running
    statistics normalise and are returned unchanged. The defaults are those of Keras.

    Deviation: the running variance averages the biased variance of each batch, the same that
    normalises it; some frameworks average the unbiased one.

    Args:
        x: [B, H, W, C].
        scale: [C].
        offset: [C].
        running: running mean and variance, [C] each.
        train: whether to normalise with the statistics of the batch.
        mask: which examples are real, bool or float of 0 and 1, [B]; None marks all.
        momentum: share of the running statistics that a batch leaves.
        epsilon: added to the variance.

    Returns:
        The normalised images, [B, H, W, C], and the running statistics.

    Raises:
        ValueError: if a shape does not fit.
    """
    if x.ndim != 4:
        raise ValueError(f"x must be [B, H, W, C]; got shape {x.shape}")
    batch, channels = x.shape[0], x.shape[3]
    if any(a.shape != (channels,) for a in (scale, offset, *running)):
        shapes = [a.shape for a in (scale, offset, *running)]
        raise ValueError(f"scale, offset and statistics must be [{channels}]; got {shapes}")
    if mask is not None and mask.shape != (batch,):
        raise ValueError(f"mask must be [{batch}], one value per example; got {mask.shape}")

    if not train:
        # Noise or few bits on the way to a server can leave a variance below zero.
        gain = scale * lax.rsqrt(jnp.maximum(running.variance, 0.0) + epsilon)
        shift = offset - running.mean * gain
        return x * _per_channel(gain) + _per_channel(shift), running

    weights = jnp.ones(batch, x.dtype) if mask is None else mask.astype(x.dtype)
    y, mean, variance = _batch_norm(*vary_alike(x, scale, offset, weights), epsilon)
    share = jnp.where(jnp.any(weights > 0), 1.0 - momentum, 0.0).astype(x.dtype)
    moved = BatchStatistics(
        running.mean + share * (lax.stop_gradient(mean) - running.mean),
        running.variance + share * (lax.stop_gradient(variance) - running.variance),
    )
    return y, moved


def _per_channel(a: jax.Array) -> jax.Array:
    return a[None, None, None, :]


def _channel_sum(x: jax.Array, weights: jax.Array) -> jax.Array:
    """[B, H, W, C] summed over all but C, each example times its weight [B]."""
    per_pixel = jnp.repeat(weights, x.shape[1] * x.shape[2])
    return lax.dot(per_pixel, x.reshape(-1, x.shape[3]))


def _count(weights: jax.Array, x: jax.Array) -> jax.Array:
    """Values per channel that enter the statistics, at least one so that it may divide."""
    return jnp.maximum(jnp.sum(weights), 1.0) * (x.shape[1] * x.shape[2])


def _value(
    x: jax.Array, scale: jax.Array, offset: jax.Array, weights: jax.Array, epsilon: float
) -> tuple[jax.Array, jax.Array, jax.Array]:
    return _forward(x, scale, offset, weights, epsilon)[0]


def _forward(x, scale, offset, weights, epsilon):
    count = _count(weights, x)
    mean = _channel_sum(x, weights) / count
    centred = x - _per_channel(mean)
    variance = _channel_sum(centred * centred, weights) / count
    inverse = lax.rsqrt(variance + epsilon)
    y = centred * _per_channel(inverse * scale) + _per_channel(offset)
    return (y, mean, variance), (x, scale, weights, mean, inverse)


def _backward(epsilon, residuals, cotangents):
    """The gradient of y = scale * u + offset with u = (x - mean) * inverse.

    Every row of dy pulls on mean and variance, but only marked rows of x move them:
    dx = inverse * scale * (dy - w / n * (sum(dy) + u * sum(dy * u))). The statistics themselves are
    returned for bookkeeping and pass no gradient.
    """
    del epsilon
    x, scale, weights, mean, inverse = residuals
    dy = cotangents[0]
    unit = (x - _per_channel(mean)) * _per_channel(inverse)
    ones = jnp.ones_like(weights)
    dy_sum = _channel_sum(dy, ones)
    dy_unit_sum = _channel_sum(dy * unit, ones)
    rows = (weights / _count(weights, x))[:, None, None, None]
    pull = rows * (_per_channel(dy_sum) + unit * _per_channel(dy_unit_sum))
    return _per_channel(inverse * scale) * (dy - pull), dy_unit_sum, dy_sum, None


_batch_norm = jax.custom_vjp(_value, nondiff_argnums=(4,))
_batch_norm.defvjp(_forward, _backward)
