"""Dense layers: a product of a batch with a weight, and the same with gradient descent built in.

XLA's product on a CPU copies the whole weight into blocks at every call, and reads and writes it
several times more to apply a gradient. On batches of tens of examples that costs as much as the
arithmetic. The native form reads the weight where it lies, and `dense_sgd` makes its new value in
the pass that computes its gradient.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax

from fedjax_kd.kernels.manual_axes import vary_alike
from fedjax_kd.kernels.native import call_native, use_native

# Below, a vector of examples is mostly empty; above, copying a weight into blocks pays.
NATIVE_BATCHES = range(4, 257)


def dense(x: jax.Array, w: jax.Array) -> jax.Array:
    """The product of a batch with a weight, y = x w.

    Args:
        x: [B, F].
        w: [F, O], of the same dtype as `x`.

    Returns:
        [B, O].

    Raises:
        ValueError: if the shapes or dtypes do not fit.
    """
    _check(x, w)
    return _dense(*vary_alike(x, w))


def dense_sgd(x: jax.Array, w: jax.Array, learning_rate: jax.Array, decay: jax.Array) -> jax.Array:
    """As `dense`, but what it hands back as the gradient of `w` is the new weight.

    That is `decay * w - learning_rate * x^T dy`, a step of stochastic gradient descent with
    `decay = 1 - learning_rate * weight_decay`. The gradient itself is never stored, and inside a
    compiled loop the new weight is written over the old one. It is the caller's duty that what
    arrives at `w` is used as the new weight and that nothing is added to it on the way: the weight
    may take part in exactly one product. `fedjax_kd.kernels.in_place` has what guards that.

    Args:
        x: [B, F], float32.
        w: [F, O], float32.
        learning_rate: scalar, float32; has no gradient.
        decay: scalar, float32; has no gradient.

    Returns:
        [B, O].

    Raises:
        ValueError: if the shapes or dtypes do not fit.
    """
    _check(x, w)
    rates = jnp.stack([jnp.asarray(learning_rate, w.dtype), jnp.asarray(decay, w.dtype)])
    if rates.shape != (2,):
        raise ValueError(
            "learning_rate and decay must be scalars; got shapes "
            f"{jnp.shape(learning_rate)} and {jnp.shape(decay)}"
        )
    return _dense_sgd(*vary_alike(x, w, lax.stop_gradient(rates)))


def _check(x: jax.Array, w: jax.Array) -> None:
    if x.ndim != 2 or w.ndim != 2 or x.shape[1] != w.shape[0]:
        raise ValueError(f"x must be [B, F] and w [F, O]; got shapes {x.shape} and {w.shape}")
    if x.dtype != w.dtype:
        raise ValueError(f"x and w must have one dtype; got {x.dtype} and {w.dtype}")


def _is_native(batch: int, dtype: jnp.dtype) -> bool:
    return use_native(able=dtype == jnp.float32, pays=batch in NATIVE_BATCHES)


def _value(x: jax.Array, w: jax.Array) -> jax.Array:
    if _is_native(x.shape[0], x.dtype):
        return call_native("fedjax_kd_dense_forward", [(x.shape[0], w.shape[1])], x, w)[0]
    return lax.dot(x, w)


def _input_gradient(dy: jax.Array, w: jax.Array) -> jax.Array:
    if _is_native(dy.shape[0], w.dtype):
        shape = (dy.shape[0], w.shape[0])
        return call_native("fedjax_kd_dense_input_gradient", [shape], dy, w)[0]
    return lax.dot_general(dy, w, (((1,), (1,)), ((), ())))


def _kernel_gradient(x: jax.Array, dy: jax.Array) -> jax.Array:
    if _is_native(x.shape[0], x.dtype):
        shape = (x.shape[1], dy.shape[1])
        return call_native("fedjax_kd_dense_kernel_gradient", [shape], x, dy)[0]
    return lax.dot_general(x, dy, (((0,), (0,)), ((), ())))


def _forward(x, w):
    return _value(x, w), (x, w)


def _backward(residuals, dy):
    x, w = residuals
    return _input_gradient(dy, w), _kernel_gradient(x, dy)


_dense = jax.custom_vjp(_value)
_dense.defvjp(_forward, _backward)


@struct.dataclass
class _Residuals:
    x: jax.Array
    w: jax.Array
    rates: jax.Array  # [2], learning rate and decay
    x_has_gradient: bool = struct.field(pytree_node=False)


def _sgd_value(x, w, rates):
    del rates
    return _value(x, w)


def _sgd_forward(x, w, rates):
    kept = _Residuals(x.value, w.value, rates.value, x_has_gradient=bool(x.perturbed))
    return _value(x.value, w.value), kept


def _sgd_backward(kept, dy):
    *dx, new_w = _sgd_in_place(kept.x, dy, kept.w, kept.rates, with_dx=kept.x_has_gradient)
    return dx[0] if dx else None, new_w, None


def sgd_in_place(
    x: jax.Array, dy: jax.Array, w: jax.Array, rates: jax.Array, with_dx: bool
) -> tuple[jax.Array, ...]:
    """The new weight, and before it the gradient of `x` if that is asked for.

    It is jitted on its own, so that traced programs have it as one operation under its name.
    """
    if _is_native(x.shape[0], x.dtype):
        if with_dx:
            target = "fedjax_kd_dense_descend_with_input_gradient"
            shapes, aliases = [x.shape, w.shape], {2: 1}
        else:
            target, shapes, aliases = "fedjax_kd_dense_descend", [w.shape], {2: 0}
        return tuple(call_native(target, shapes, x, dy, w, rates, aliases=aliases))
    new_w = rates[1] * w - rates[0] * _kernel_gradient(x, dy)
    return (_input_gradient(dy, w), new_w) if with_dx else (new_w,)


_sgd_in_place = jax.jit(sgd_in_place, static_argnames="with_dx")
_dense_sgd = jax.custom_vjp(_sgd_value)
_dense_sgd.defvjp(_sgd_forward, _sgd_backward, symbolic_zeros=True)
