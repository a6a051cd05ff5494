"""The native convolution with group normalisation, addition and ReLU, as functions of JAX arrays.

Shapes are those of `fedjax_kd.kernels.conv_group_norm`, which is the front; nothing is checked
here.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_kd.kernels.manual_axes import vary_alike
from fedjax_kd.kernels.native.call import call_native
from fedjax_kd.kernels.native.conv import Pads, Pair, geometry, output_shape

_NOTHING = (0,)  # the shape of an argument or result that is left out


class Options(NamedTuple):
    """What of the operation is fixed when a program is traced."""

    groups: int
    epsilon: float
    stride: Pair
    pads: Pads
    relu: bool


class Kept(NamedTuple):
    """What the gradient needs of the forward pass."""

    y: jax.Array  # [B, Ho, Wo, Co]
    z: jax.Array  # [B, Ho, Wo, Co], the convolution
    mean: jax.Array  # [B, groups]
    inverse: jax.Array  # [B, groups], of the deviation


class Gradients(NamedTuple):
    """Gradients of the arguments; None for those left out."""

    x: jax.Array | None
    w: jax.Array
    scale: jax.Array
    offset: jax.Array
    residual: jax.Array | None


def forward(
    x: jax.Array,
    w: jax.Array,
    scale: jax.Array,
    offset: jax.Array,
    residual: jax.Array | None,
    options: Options,
    *,
    keep: bool,
) -> Kept:
    """The result and, with `keep`, what its gradient needs; without, z is empty."""
    shape = output_shape(x.shape, w.shape, options.stride, options.pads)
    statistics = (x.shape[0], options.groups)
    if residual is None:
        residual = vary_alike(jnp.zeros(_NOTHING, x.dtype), x)[0]
    made = call_native(
        "fedjax_kd_conv_group_norm_forward",
        [shape, shape if keep else _NOTHING, statistics, statistics],
        x,
        w,
        scale,
        offset,
        residual,
        groups=np.int64(options.groups),
        epsilon=np.float32(options.epsilon),
        relu=bool(options.relu),
        **geometry(options.stride, options.pads),
    )
    return Kept(*made)


def backward(
    dy: jax.Array,
    x: jax.Array,
    w: jax.Array,
    scale: jax.Array,
    kept: Kept,
    options: Options,
    *,
    wants_x: bool,
    has_residual: bool,
) -> Gradients:
    """The gradients, from that of the result, dy [B, Ho, Wo, Co]."""
    dx, dw, dscale, doffset, dresidual = call_native(
        "fedjax_kd_conv_group_norm_backward",
        [
            x.shape if wants_x else _NOTHING,
            w.shape,
            scale.shape,
            scale.shape,
            dy.shape if has_residual else _NOTHING,
        ],
        dy,
        x,
        w,
        scale,
        *kept,
        groups=np.int64(options.groups),
        relu=bool(options.relu),
        **geometry(options.stride, options.pads),
    )
    return Gradients(
        dx if wants_x else None, dw, dscale, doffset, dresidual if has_residual else None
    )
