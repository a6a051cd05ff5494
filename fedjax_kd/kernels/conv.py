"""A 2-D convolution with gradients of its own, in two forms.

The native form is C++ of our own (`fedjax_kd.kernels.native`), for float32 on a CPU. It is the
faster one in all shapes of our models: a little, where 32 channels or more meet 32 or more, and
more than tenfold, where there is one channel.

The canonical form is for everything else. XLA's CPU backend has a fast convolution for one layout
only: images [batch, rows, columns, channels] and kernels [rows, columns, channels in, channels
out], `b01f_01io->b01f` in HLO. Automatic differentiation of `jax.lax.conv_general_dilated` states
the gradients in other layouts. Outside of a loop XLA rewrites those; inside a `while` body (scan,
map, fori_loop) it does not, and they run up to two orders of magnitude slower. So the canonical
form states both gradients in the fast layout from the start.

`conv2d` is the one place where models convolve.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax

from fedjax_kd.kernels.manual_axes import vary_alike
from fedjax_kd.kernels.native import conv as native_conv
from fedjax_kd.kernels.native import use_native

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

    Reverse-mode differentiable once in `x` and in `w`. Under `vmap` over `w` the canonical form
    becomes a grouped convolution, which is slow, and the native form a loop: map over clients with
    a loop instead.

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
    steps, pads = check_convolution(x, w, stride, padding)
    pointwise = w.shape[:2] == (1, 1) and not any(map(any, pads))
    if use_native(able=can_be_native(x, w)):
        if not pointwise or steps != (1, 1):
            return _native(*vary_alike(x, w), steps, pads)
        pixels = x.reshape(1, 1, -1, x.shape[3])  # one long row fills the register tiles
        return _native(*vary_alike(pixels, w), steps, pads).reshape(*x.shape[:3], w.shape[3])
    if pointwise:
        return _pointwise(x, w, steps)
    return _conv(*vary_alike(x, w), steps, pads)


def check_convolution(
    x: jax.Array, w: jax.Array, stride: Sequence[int], padding: Padding
) -> tuple[_Pair, _Pads]:
    """Checks the arguments of `conv2d`; returns the stride and the padding as explicit numbers."""
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
    return (int(stride[0]), int(stride[1])), pads


def can_be_native(x: jax.Array, w: jax.Array) -> bool:
    """Whether the native convolution takes these images and kernel: float32, and not empty."""
    return x.dtype == w.dtype == jnp.float32 and x.size > 0 and w.size > 0


def _native_value(x: jax.Array, w: jax.Array, stride: _Pair, pads: _Pads) -> jax.Array:
    return native_conv.forward(x, w, stride, pads)


def _native_forward(x, w, stride, pads):
    return _native_value(x, w, stride, pads), (x, w)


def _native_backward(stride, pads, residuals, dy):
    x, w = residuals
    dx = native_conv.input_gradient(dy, w, x.shape, stride, pads)
    return dx, native_conv.kernel_gradient(x, dy, w.shape, stride, pads)


_native = jax.custom_vjp(_native_value, nondiff_argnums=(2, 3))
_native.defvjp(_native_forward, _native_backward)


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
    wanted = [
        (low, taps + (out - 1) * step - size - low)
        for (low, _), taps, out, step, size in zip(
            pads, w_shape[:2], dy.shape[1:3], stride, x.shape[1:3], strict=True
        )
    ]
    x, ends, _ = _without_negative(x, wanted, (1, 1))
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
    wanted = [
        (taps - 1 - low, size + low - 1 - (out - 1) * step)
        for (low, _), taps, out, step, size in zip(
            pads, w.shape[:2], dy.shape[1:3], stride, x_shape[1:3], strict=True
        )
    ]
    dy, ends, spread = _without_negative(dy, wanted, stride)
    flipped = lax.transpose(lax.rev(w, (0, 1)), (0, 1, 3, 2))  # [kh, kw, Co, Ci]
    return lax.conv_general_dilated(
        dy, flipped, (1, 1), ends, lhs_dilation=spread, dimension_numbers=_CANONICAL
    )


def _without_negative(
    images: jax.Array, pads: Sequence[_Pair], spread: _Pair
) -> tuple[jax.Array, Sequence[_Pair], _Pair]:
    """Images, their padding and their spreading, put so that no padding is negative.

    XLA's CPU backend reads beyond the array if a convolution's padding is negative; so, in these
    rare cases, spreading and padding are done before.
    """
    if min(map(min, pads)) >= 0:
        return images, pads, spread
    inside = [(*pad, step - 1) for pad, step in zip(pads, spread, strict=True)]
    zero = jnp.zeros((), images.dtype)
    return lax.pad(images, zero, [(0, 0, 0), *inside, (0, 0, 0)]), [(0, 0), (0, 0)], (1, 1)


_conv = jax.custom_vjp(_value, nondiff_argnums=(2, 3))
_conv.defvjp(_forward, _backward)
