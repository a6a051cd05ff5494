"""Pooling without `reduce_window`: XLA's CPU backend runs that, and its gradient, slowly.

The maximum is taken over strided slices of the image, and the gradient goes back through the index
of the slice that won, which is kept as one byte per output. The native form does the same, and the
bias and the ReLU that follow, in one pass over the image.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from fedjax_kd.kernels.manual_axes import vary_alike
from fedjax_kd.kernels.native import call_native, use_native

NATIVE_WINDOW = 4  # elements; for smaller windows XLA's loops are as fast
_WINNERS_PADDED_TO = 16  # channels; the native form writes whole vectors of them


def max_pool(x: jax.Array, window: tuple[int, int] = (2, 2)) -> jax.Array:
    """The maximum over windows that do not overlap.

    The gradient of an output goes to exactly one input: the first maximum of its window in
    row-major order, which is also where the gradient of `lax.reduce_window` sends it. Rows and
    columns at the end that fill no window are dropped (as with "VALID") and have gradient zero.

    Args:
        x: [B, H, W, C].
        window: rows and columns of a window, at most 127 elements.

    Returns:
        [B, H // window[0], W // window[1], C].

    Raises:
        ValueError: if x has not four axes, or the window is larger than the image, or smaller than
            one element, or of more than 127.
    """
    return _max_pool(x, _checked(x, window))


def pool_bias_relu(x: jax.Array, bias: jax.Array, window: tuple[int, int] = (2, 2)) -> jax.Array:
    """The maximum over windows that do not overlap, plus a bias per channel, through ReLU.

    The same as `relu(max_pool(x, window) + bias)`, gradients included. The bias comes after the
    maximum because there are fewer elements left to add it to.

    Args:
        x: [B, H, W, C].
        bias: [C], of the same dtype as `x`.
        window: rows and columns of a window, at most 127 elements.

    Returns:
        [B, H // window[0], W // window[1], C].

    Raises:
        ValueError: as `max_pool`, or if the bias does not fit.
    """
    rows, columns = _checked(x, window)
    if bias.shape != x.shape[3:] or bias.dtype != x.dtype:
        raise ValueError(
            f"bias must be {x.dtype} of shape {x.shape[3:]}; got {bias.dtype} of {bias.shape}"
        )
    if use_native(able=x.dtype == jnp.float32, pays=rows * columns >= NATIVE_WINDOW):
        return _pool_bias_relu(*vary_alike(x, bias), (rows, columns))
    return jax.nn.relu(_max_pool(x, (rows, columns)) + bias[None, None, None, :])


def _checked(x: jax.Array, window: tuple[int, int]) -> tuple[int, int]:
    rows, columns = window
    if x.ndim != 4:
        raise ValueError(f"x must be [B, H, W, C]; got shape {x.shape}")
    if min(window) < 1 or rows * columns > 127:
        raise ValueError(f"window must have between 1 and 127 elements; got {window}")
    if x.shape[1] < rows or x.shape[2] < columns:
        raise ValueError(f"window {window} is larger than the image, {x.shape[1]} x {x.shape[2]}")
    return int(rows), int(columns)


def global_average_pool(x: jax.Array) -> jax.Array:
    """The mean over rows and columns: [B, H, W, C] to [B, C]."""
    return jnp.mean(x, axis=(1, 2))


def _slices(x: jax.Array, window: tuple[int, int]) -> list[jax.Array]:
    """The elements at each place of all windows, in row-major order, each [B, Ho, Wo, C]."""
    rows, columns = window
    height = x.shape[1] // rows * rows
    width = x.shape[2] // columns * columns
    return [x[:, i:height:rows, j:width:columns, :] for i in range(rows) for j in range(columns)]


def _value(x: jax.Array, window: tuple[int, int]) -> jax.Array:
    first, *rest = _slices(x, window)
    for other in rest:
        first = jnp.maximum(first, other)
    return first


def _forward(x, window):
    best, *rest = _slices(x, window)
    winner = jnp.zeros(best.shape, jnp.int8)
    for place, other in enumerate(rest, start=1):
        winner = jnp.where(other > best, jnp.int8(place), winner)
        best = jnp.maximum(best, other)
    return best, (winner, x.shape[1:3])


def _backward(window, residuals, dy):
    winner, (height, width) = residuals
    rows, columns = window
    batch, out_rows, out_columns, channels = dy.shape
    covered = (batch, out_rows * rows, out_columns * columns, channels)

    def spread(a):
        blocks = (batch, out_rows, rows, out_columns, columns, channels)
        return jnp.broadcast_to(a[:, :, None, :, None, :], blocks).reshape(covered)

    grid = (1, covered[1], covered[2], 1)
    place = lax.broadcasted_iota(jnp.int32, grid, 1) % rows * columns
    place = (place + lax.broadcasted_iota(jnp.int32, grid, 2) % columns).astype(jnp.int8)
    spread_dy = spread(dy)
    dx = jnp.where(spread(winner) == place, spread_dy, jnp.zeros_like(spread_dy))
    edges = ((0, 0), (0, height - covered[1]), (0, width - covered[2]), (0, 0))
    return (jnp.pad(dx, edges),)


_max_pool = jax.custom_vjp(_value, nondiff_argnums=(1,))
_max_pool.defvjp(_forward, _backward)


def _native_value(x, bias, window):
    return _native_forward(x, bias, window)[0]


def _native_forward(x, bias, window):
    batch, height, width, channels = x.shape
    rows, columns = window
    pixels = (batch, height // rows, width // columns)
    padded = -(-channels // _WINNERS_PADDED_TO) * _WINNERS_PADDED_TO
    out, winners = call_native(
        "fedjax_kd_pool_forward",
        [(*pixels, channels), (*pixels, padded)],
        x,
        bias,
        dtypes=[jnp.float32, jnp.uint8],
        rows=np.int64(rows),
        columns=np.int64(columns),
    )
    return out, (winners, (height, width))


def _native_backward(window, residuals, dy):
    winners, (height, width) = residuals
    batch, channels = dy.shape[0], dy.shape[3]
    dx, dbias = call_native(
        "fedjax_kd_pool_backward",
        [(batch, height, width, channels), (channels,)],
        dy,
        winners,
        rows=np.int64(window[0]),
        columns=np.int64(window[1]),
    )
    return dx, dbias


_pool_bias_relu = jax.custom_vjp(_native_value, nondiff_argnums=(2,))
_pool_bias_relu.defvjp(_native_forward, _native_backward)
