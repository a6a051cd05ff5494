"""Convolution, group normalisation, an addition and ReLU as one operation: a residual net's layer.

The native form takes each image through all steps while it is in the core's cache, forwards and
backwards. The canonical form is the composition of the separate kernels.
"""

from __future__ import annotations

import jax
from jax.custom_derivatives import SymbolicZero

from fedjax_kd.kernels.conv import Padding, can_be_native, check_convolution, conv2d
from fedjax_kd.kernels.group_norm import check_norm, group_norm
from fedjax_kd.kernels.manual_axes import vary_alike
from fedjax_kd.kernels.native import conv_group_norm as native_form
from fedjax_kd.kernels.native import use_native
from fedjax_kd.kernels.native.conv import output_shape
from fedjax_kd.kernels.native.conv_group_norm import Options


def conv_group_norm(
    x: jax.Array,
    w: jax.Array,
    scale: jax.Array,
    offset: jax.Array,
    groups: int,
    *,
    stride: tuple[int, int] = (1, 1),
    padding: Padding = "SAME",
    residual: jax.Array | None = None,
    relu: bool = True,
    epsilon: float = 1e-5,
) -> jax.Array:
    """`relu(group_norm(conv2d(x, w), scale, offset) + residual)`.

    Reverse-mode differentiable once in every array. In the native form the gradient of `x` is left
    out where nobody asks for it.

    Args:
        x: images, [B, H, W, Ci].
        w: kernel, [kh, kw, Ci, Co].
        scale: [Co].
        offset: [Co].
        groups: number of groups of neighbouring channels; divides Co.
        stride: steps along rows and columns.
        padding: as `conv2d` takes it.
        residual: added after normalisation, [B, Ho, Wo, Co]; None adds nothing.
        relu: whether the sum goes through a ReLU.
        epsilon: added to the variance.

    Returns:
        [B, Ho, Wo, Co].

    Raises:
        ValueError: as `conv2d` and `group_norm` do, or if the residual has another shape than the
            result.
    """
    steps, pads = check_convolution(x, w, stride, padding)
    check_norm(w.shape[3], scale, offset, groups)
    shape = output_shape(x.shape, w.shape, steps, pads)
    if residual is not None and residual.shape != shape:
        raise ValueError(f"residual must be {list(shape)}, as the result; got {residual.shape}")
    arrays = [scale, offset] if residual is None else [scale, offset, residual]
    if not use_native(able=can_be_native(x, w) and all(a.dtype == x.dtype for a in arrays)):
        z = conv2d(x, w, stride=steps, padding=pads)
        y = group_norm(z, scale, offset, groups, epsilon=epsilon)
        y = y if residual is None else y + residual
        return jax.nn.relu(y) if relu else y
    if w.shape[:2] == (1, 1) and steps == (1, 1) and not any(map(any, pads)):
        # Single pixels have no neighbours, so an image may be one long row.
        x = x.reshape(x.shape[0], 1, -1, x.shape[3])
        residual = None if residual is None else residual.reshape(shape[0], 1, -1, shape[3])
    options = Options(int(groups), float(epsilon), steps, pads, bool(relu))
    if residual is None:
        return _native(*vary_alike(x, w, scale, offset), None, options).reshape(shape)
    return _native(*vary_alike(x, w, scale, offset, residual), options).reshape(shape)


def _value(x, w, scale, offset, residual, options):
    return native_form.forward(x, w, scale, offset, residual, options, keep=False).y


def _forward(x, w, scale, offset, residual, options):
    """Each array comes with the knowledge whether anybody asks for its gradient."""
    wants_x = () if x.perturbed else None  # as structure, for it must not become a traced value
    x, w, scale, offset = (a.value for a in (x, w, scale, offset))
    added = None if residual is None else residual.value
    kept = native_form.forward(x, w, scale, offset, added, options, keep=True)
    has_residual = None if residual is None else ()
    return kept.y, (x, w, scale, kept, wants_x, has_residual)


def _backward(options, residuals, dy):
    x, w, scale, kept, wants_x, has_residual = residuals
    if isinstance(dy, SymbolicZero):
        return None, None, None, None, None
    return tuple(
        native_form.backward(
            dy,
            x,
            w,
            scale,
            kept,
            options,
            wants_x=wants_x is not None,
            has_residual=has_residual is not None,
        )
    )


_native = jax.custom_vjp(_value, nondiff_argnums=(5,))
_native.defvjp(_forward, _backward, symbolic_zeros=True)
