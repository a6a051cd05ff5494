"""Group normalisation with its own gradient.

XLA's CPU backend reduces slowly over axes that are not the last. The sums over pixels are
therefore products with a vector of ones, and the gradient is written out by hand so that each of
its two sums is taken once.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from fedjax_kd.kernels.manual_axes import vary_alike


def group_norm(
    x: jax.Array, scale: jax.Array, offset: jax.Array, groups: int, *, epsilon: float = 1e-5
) -> jax.Array:
    """Normalises each example over its pixels and the channels of one group (Wu and He 2018).

    The variance is the mean squared deviation from the mean (taken in a second pass).

    Args:
        x: [B, H, W, C].
        scale: [C].
        offset: [C].
        groups: number of groups of neighbouring channels; divides C.
        epsilon: added to the variance.

    Returns:
        [B, H, W, C].

    Raises:
        ValueError: if a shape does not fit or `groups` does not divide C.
    """
    if x.ndim != 4:
        raise ValueError(f"x must be [B, H, W, C]; got shape {x.shape}")
    check_norm(x.shape[3], scale, offset, groups)
    channels = x.shape[3]
    flat = x.reshape(x.shape[0], -1, channels)
    return _group_norm(*vary_alike(flat, scale, offset), groups, epsilon).reshape(x.shape)


def check_norm(channels: int, scale: jax.Array, offset: jax.Array, groups: int) -> None:
    """Checks the arguments of `group_norm` beside the images."""
    if scale.shape != (channels,) or offset.shape != (channels,):
        raise ValueError(
            f"scale and offset must be [{channels}]; got {scale.shape} and {offset.shape}"
        )
    if groups < 1 or channels % groups:
        raise ValueError(f"groups must divide the {channels} channels; got {groups}")


def _pixel_sum(x: jax.Array) -> jax.Array:
    """[B, P, C] summed over P, as a product with ones."""
    ones = jnp.ones(x.shape[:2], x.dtype)
    return lax.dot_general(ones, x, (((1,), (1,)), ((0,), (0,))))


def _group_mean(pixel_sums: jax.Array, pixels: int, groups: int) -> jax.Array:
    """Sums per channel [B, C] to means per group, repeated for the group's channels: [B, 1, C]."""
    batch, channels = pixel_sums.shape
    per_group = channels // groups
    means = jnp.sum(pixel_sums.reshape(batch, groups, per_group), axis=2) / (pixels * per_group)
    return jnp.repeat(means, per_group, axis=1)[:, None, :]


def _value(
    x: jax.Array, scale: jax.Array, offset: jax.Array, groups: int, epsilon: float
) -> jax.Array:
    return _forward(x, scale, offset, groups, epsilon)[0]


def _forward(x, scale, offset, groups, epsilon):
    pixels = x.shape[1]
    mean = _group_mean(_pixel_sum(x), pixels, groups)
    centred = x - mean
    variance = _group_mean(_pixel_sum(centred * centred), pixels, groups)
    inverse = lax.rsqrt(variance + epsilon)
    y = centred * (inverse * scale[None, None, :]) + offset[None, None, :]
    return y, (x, scale, mean, inverse)


def _backward(groups, epsilon, residuals, dy):
    """The gradient of y = scale * u + offset with u = (x - mean) * inverse.

    With g = dy * scale: dx = inverse * (g - mean(g) - u * mean(g * u)), means over the group.
    """
    del epsilon
    x, scale, mean, inverse = residuals
    pixels = x.shape[1]
    unit = (x - mean) * inverse
    dy_sum = _pixel_sum(dy)  # [B, C]
    dy_unit_sum = _pixel_sum(dy * unit)  # [B, C]
    gain = scale[None, :]
    g_mean = _group_mean(dy_sum * gain, pixels, groups)
    g_unit_mean = _group_mean(dy_unit_sum * gain, pixels, groups)
    dx = inverse * (dy * gain[None] - g_mean - unit * g_unit_mean)
    return dx, jnp.sum(dy_unit_sum, axis=0), jnp.sum(dy_sum, axis=0)


_group_norm = jax.custom_vjp(_value, nondiff_argnums=(3, 4))
_group_norm.defvjp(_forward, _backward)
