"""A 2-D convolution whose two gradients are stated as canonical convolutions.

XLA's CPU backend has a fast convolution for one layout only: images [batch, rows, columns,
channels] and kernels [rows, columns, channels in, channels out], `b01f_01io->b01f` in HLO.
Automatic differentiation of `jax.lax.conv_general_dilated` states the gradients in other layouts.
Outside of a loop XLA rewrites those; inside a `while` body (scan, map, fori_loop) it does not, and
they run up to two orders of magnitude slower. Here both gradients are stated in the fast layout
from the start.

`conv2d` is the one place where models convolve.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import jax
from jax import lax

from fedjax_kd.kernels.manual_axes import vary_alike

Padding = Literal["SAME", "VALID"] | Sequence[tuple[int, int]]
_Pair = tuple[int, int]
_Pads = tuple[_Pair, _Pair]

_CANONICAL = ("NHWC", "HWIO", "NHWC")


def conv2d(
    x: jax.Array,
    w: jax.Array,
    *,
    stride: _Pair = (1, 1),
    padding: Padding = "SAME",
) -> jax.Array:
    """Convolves images with a kernel (cross-correlation, as is usual for networks).

    Reverse-mode differentiable once in `x` and in `w`. Under `vmap` over `w` XLA makes a
    grouped convolution of it, which is slow: map over clients with a loop instead.

    Args:
        x: images, [B, H, W, Ci].
        w: kernel, [kh, kw, Ci, Co], of the same dtype as `x`.
        stride: steps along rows and columns, each at least 1.
        padding: "SAME", "VALID", or explicit ((top, bottom), (left, right)), each at least 0.

    Returns:
        [B, Ho, Wo, Co].

    Raises:
        ValueError: if a rank, a channel count, the stride or the padding does not fit, or if the
            kernel is larger than the padded image.
    """
    if x.ndim != 4 or w.ndim != 4:
        raise ValueError(
            f"x must be [B, H, W, Ci] and w [kh, kw, Ci, Co]; got shapes {x.shape} and {w.shape}"
        )
    if x.shape[3] != w.shape[2]:
        raise ValueError(
            f"w takes {w.shape[2]} input channels, but x has {x.shape[3]} "
            f"(shapes {w.shape} and {x.shape})"
        )
    if len(stride) != 2 or min(stride) < 1:
        raise ValueError(f"stride must be two integers of at least 1; got {stride}")
    pads = _resolve_padding(padding, x.shape[1:3], w.shape[:2], stride)
    for name, size, pad, taps in zip(
        ("rows", "columns"), x.shape[1:3], pads, w.shape[:2], strict=True
    ):
        if size + sum(pad) < taps:
            raise ValueError(
                f"the kernel has {taps} {name}, more than the {size + sum(pad)} of the padded image"
            )
    if w.shape[:2] == (1, 1) and not any(map(any, pads)):
        return _pointwise(x, w, stride)
    return _conv(*vary_alike(x, w), (int(stride[0]), int(stride[1])), pads)


def _pointwise(x: jax.Array, w: jax.Array, stride: Sequence[int]) -> jax.Array:
    """A 1x1 convolution as one matrix product over all pixels; so are both of its gradients."""
    picked = x[:, :: stride[0], :: stride[1], :]
    rows = picked.reshape(-1, x.shape[3])
    return lax.dot(rows, w[0, 0]).reshape(*picked.shape[:3], w.shape[3])


def _resolve_padding(
    padding: Padding, size: Sequence[int], taps: Sequence[int], stride: Sequence[int]
) -> _Pads:
    if isinstance(padding, str):
        if padding not in ("SAME", "VALID"):
            raise ValueError(f"padding must be 'SAME', 'VALID' or explicit; got {padding!r}")
        pads = lax.padtype_to_pads(size, taps, stride, padding)
    else:
        pads = [tuple(pair) for pair in padding]
        if len(pads) != 2 or any(len(pair) != 2 or min(pair) < 0 for pair in pads):
            raise ValueError(
                "explicit padding must be ((top, bottom), (left, right)), each at least 0; "
                f"got {padding!r}"
            )
    (top, bottom), (left, right) = pads
    return (int(top), int(bottom)), (int(left), int(right))


def _value(x: jax.Array, w: jax.Array, stride: _Pair, pads: _Pads) -> jax.Array:
    return lax.conv_general_dilated(x, w, stride, pads, dimension_numbers=_CANONICAL)


def _forward(x, w, stride, pads):
    return _value(x, w, stride, pads), (x, w)


def _backward(stride, pads, residuals, dy):
    x, w = residuals
    return _input_gradient(dy, w, x.shape, stride, pads), _kernel_gradient(
        x, dy, w.shape, stride, pads
    )


def _kernel_gradient(x, dy, w_shape, stride, pads):
    """dL/dw: the images, their batch axis as channels, convolved with dy as a dilated kernel.

    dw[i, j, ci, co] = sum over b, p, q of x[b, p s + i - top, q s + j - left, ci] dy[b, p, q, co].
    Rows and columns that no stride reaches are cut by a smaller, possibly negative, end padding.
    """
    ends = [
        (low, taps + (out - 1) * step - size - low)
        for (low, _), taps, out, step, size in zip(
            pads, w_shape[:2], dy.shape[1:3], stride, x.shape[1:3], strict=True
        )
    ]
    channels_first = lax.transpose(x, (3, 1, 2, 0))  # [Ci, H, W, B]
    batch_third = lax.transpose(dy, (1, 2, 0, 3))  # [Ho, Wo, B, Co]
    dw = lax.conv_general_dilated(
        channels_first,
        batch_third,
        (1, 1),
        ends,
        rhs_dilation=stride,
        dimension_numbers=_CANONICAL,
    )  # [Ci, kh, kw, Co]
    return lax.transpose(dw, (1, 2, 0, 3))


def _input_gradient(dy, w, x_shape, stride, pads):
    """dL/dx: dy, spread by the stride, convolved with the kernel flipped and its channels swapped.

    dx[b, h, v, ci] = sum over i, j, co of dy[b, (h + top - i) / s, (v + left - j) / s, co]
    w[i, j, ci, co], over the taps at which both divisions are exact.
    """
    ends = []
    for (low, _), taps, out, step, size in zip(
        pads, w.shape[:2], dy.shape[1:3], stride, x_shape[1:3], strict=True
    ):
        ends.append((taps - 1 - low, size + low - 1 - (out - 1) * step))
    flipped = lax.transpose(lax.rev(w, (0, 1)), (0, 1, 3, 2))  # [kh, kw, Co, Ci]
    return lax.conv_general_dilated(
        dy, flipped, (1, 1), ends, lhs_dilation=stride, dimension_numbers=_CANONICAL
    )


_conv = jax.custom_vjp(_value, nondiff_argnums=(2, 3))
_conv.defvjp(_forward, _backward)
