"""The native convolution and its two gradients, as functions of JAX arrays.

Images are [B, H, W, C] and kernels [kh, kw, Ci, Co], float32. `stride` is (rows, columns), `pads`
((top, bottom), (left, right)); what of the bottom and the right is used follows from the shapes.
Nothing is checked here: `fedjax_kd.kernels.conv` is the front.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from fedjax_kd.kernels.native.call import call_native

Pair = tuple[int, int]
Pads = tuple[Pair, Pair]


def geometry(stride: Pair, pads: Pads) -> dict[str, Any]:
    """The attributes that all entry points of convolutions take."""
    (top, _), (left, _) = pads
    return {
        "row_stride": np.int64(stride[0]),
        "column_stride": np.int64(stride[1]),
        "top": np.int64(top),
        "left": np.int64(left),
    }


def output_shape(
    x_shape: tuple[int, ...], w_shape: tuple[int, ...], stride: Pair, pads: Pads
) -> tuple[int, int, int, int]:
    """The shape [B, Ho, Wo, Co] of the convolution."""
    rows, columns = (
        (size + sum(pad) - taps) // step + 1
        for size, pad, taps, step in zip(x_shape[1:3], pads, w_shape[:2], stride, strict=True)
    )
    return x_shape[0], rows, columns, w_shape[3]


def forward(x: jax.Array, w: jax.Array, stride: Pair, pads: Pads) -> jax.Array:
    """The convolution of x with w, [B, Ho, Wo, Co]."""
    shape = output_shape(x.shape, w.shape, stride, pads)
    return call_native("fedjax_kd_conv_forward", [shape], x, w, **geometry(stride, pads))[0]


def input_gradient(
    dy: jax.Array, w: jax.Array, x_shape: tuple[int, ...], stride: Pair, pads: Pads
) -> jax.Array:
    """The gradient of x, of shape `x_shape`, from that of the output, dy [B, Ho, Wo, Co]."""
    target = "fedjax_kd_conv_input_gradient"
    return call_native(target, [x_shape], dy, w, **geometry(stride, pads))[0]


def kernel_gradient(
    x: jax.Array, dy: jax.Array, w_shape: tuple[int, ...], stride: Pair, pads: Pads
) -> jax.Array:
    """The gradient of w, of shape `w_shape`, from that of the output, dy [B, Ho, Wo, Co]."""
    target = "fedjax_kd_conv_kernel_gradient"
    return call_native(target, [w_shape], x, dy, **geometry(stride, pads))[0]
