"""What a model costs: parameters, floating-point operations and bits.

Operations are counted on the traced forward pass: twice the multiply-adds of every convolution and
every matrix product in it. Nothing else is counted: biases, ReLU, pooling and normalisation are a
few per cent of these networks' work. A product in which one side has no axis of its own in the
result is a sum (normalisation takes its sums so) and is not counted either.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr

from fedjax_kd import kernels
from fedjax_kd.models.model import Model

TRAINING_TO_FORWARD = 3
"""A training step costs three forward passes: the backward pass is two (Kaplan et al. 2020)."""

BITS_PER_VALUE = 32


class ModelProfile(NamedTuple):
    """The cost of a model; operations are per example."""

    parameters: int  # trainable values
    forward_flops: int  # 2 x multiply-adds of convolutions and matrix products
    training_flops: int  # 3 x forward_flops
    bits: int  # to send the model: float32 parameters and, with BatchNorm, running statistics


def profile(model: Model) -> ModelProfile:
    """Counts a model's parameters, operations and bits, without computing anything.

    Args:
        model: as `build_model` returns.

    Returns:
        The profile.
    """
    variables = jax.eval_shape(model.init, jax.random.key(0))
    parameters = _count(variables["params"])
    forward = forward_flops(model)
    return ModelProfile(
        parameters=parameters,
        forward_flops=forward,
        training_flops=TRAINING_TO_FORWARD * forward,
        bits=BITS_PER_VALUE * (parameters + _count(variables["stats"])),
    )


def forward_flops(model: Model, *, count_padding: bool = True) -> int:
    """Twice the multiply-adds of one example's forward pass.

    Args:
        model: as `build_model` returns.
        count_padding: whether the products with padding zeros count. They do in the usual count (by
            which ResNet-20 has 41 million multiply-adds); XLA's cost analysis leaves them out.

    Returns:
        Floating-point operations per example.
    """
    variables = jax.eval_shape(model.init, jax.random.key(0))
    example = jax.ShapeDtypeStruct((1, *model.input_shape), jnp.float32)
    with kernels.using("canonical"):  # what a native kernel does cannot be seen in a trace
        traced = jax.make_jaxpr(lambda v, x: model.apply(v, x, False)[0])(variables, example)
    return 2 * _multiply_adds(traced.jaxpr, count_padding)


def _count(tree: Any) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def _multiply_adds(jaxpr: Jaxpr, count_padding: bool) -> int:
    total = 0
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if name == "conv_general_dilated":
            total += _convolution(equation, count_padding)
        elif name == "dot_general":
            total += _product(equation)
        else:
            inner = sum(_multiply_adds(sub, count_padding) for sub in _inner(equation.params))
            if inner and name in ("while", "cond"):
                raise NotImplementedError(f"operations inside {name!r} cannot be counted")
            total += inner * equation.params.get("length", 1)
    return total


def _inner(params: dict[str, Any]) -> Iterator[Jaxpr]:
    for value in params.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if isinstance(item, ClosedJaxpr):
                yield item.jaxpr
            elif isinstance(item, Jaxpr):
                yield item


def _product(equation: Any) -> int:
    (left_contracted, right_contracted), (left_batch, right_batch) = equation.params[
        "dimension_numbers"
    ]
    left, right = (v.aval for v in equation.invars)
    left_free = left.ndim - len(left_contracted) - len(left_batch)
    right_free = right.ndim - len(right_contracted) - len(right_batch)
    if left_free == 0 or right_free == 0:
        return 0
    return math.prod(equation.outvars[0].aval.shape) * _sizes(left.shape, left_contracted)


def _convolution(equation: Any, count_padding: bool) -> int:
    params = equation.params
    numbers = params["dimension_numbers"]
    kernel = equation.invars[1].aval.shape
    out = equation.outvars[0].aval.shape
    image = equation.invars[0].aval.shape
    per_tap = out[numbers.out_spec[0]] * out[numbers.out_spec[1]] * kernel[numbers.rhs_spec[1]]
    taps = 1
    for i, (low, _) in enumerate(params["padding"]):
        places = out[numbers.out_spec[2 + i]]
        window = kernel[numbers.rhs_spec[2 + i]]
        if count_padding:
            taps *= places * window
            continue
        if params["lhs_dilation"][i] != 1:
            raise NotImplementedError("padding of a spread image cannot be told apart")
        starts = np.arange(places) * params["window_strides"][i] - low
        at = starts[:, None] + np.arange(window)[None, :] * params["rhs_dilation"][i]
        taps *= int(np.sum((at >= 0) & (at < image[numbers.lhs_spec[2 + i]])))
    return per_tap * taps


def _sizes(shape: Sequence[int], axes: Sequence[int]) -> int:
    return math.prod(shape[axis] for axis in axes)
