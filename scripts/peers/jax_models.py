"""The four models as plain functions of JAX, as a user of FedJAX would write them.

Convolutions are `lax.conv_general_dilated`, pooling is `lax.reduce_window`, normalisation is the
usual reshape, mean and variance. Parameters are the arrays of a job, by name.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

GROUPS = 8
Parameters = dict[str, jax.Array]


def forward(name: str, weights: Parameters, x: jax.Array) -> jax.Array:
    """Images [B, 28, 28, 1] to logits [B, C].

    Raises:
        ValueError: if the name is unknown.
    """
    match name:
        case "cnn1" | "lenet":
            padding = "VALID" if name == "cnn1" else "SAME"
            x = _conv_pool(weights, "extractor/Conv_0", x, padding)
            x = _conv_pool(weights, "extractor/Conv_1", x, "VALID")
        case "resnet8":
            return _resnet(weights, x)
        case "mlp":
            pass
        case _:
            raise ValueError(f"model must be cnn1, lenet, mlp or resnet8; got {name!r}")
    x = x.reshape(len(x), -1)
    for layer in ("extractor/Dense_0", "extractor/Dense_1"):
        x = jax.nn.relu(_dense(weights, layer, x))
    return _dense(weights, "head", x)


def _resnet(weights: Parameters, x: jax.Array) -> jax.Array:
    x = _conv(weights["extractor/Conv_0/kernel"], x)
    x = jax.nn.relu(_group_norm(weights, "extractor/Norm_0", x))
    for block, stride in enumerate((1, 2, 2)):
        layer = f"extractor/Block_{block}"
        y = _conv(weights[f"{layer}/Conv_0/kernel"], x, stride)
        y = jax.nn.relu(_group_norm(weights, f"{layer}/Norm_0", y))
        y = _conv(weights[f"{layer}/Conv_1/kernel"], y)
        y = _group_norm(weights, f"{layer}/Norm_1", y)
        shortcut = _conv(weights[f"{layer}/Conv_2/kernel"], x, stride)
        x = jax.nn.relu(y + _group_norm(weights, f"{layer}/Norm_2", shortcut))
    return _dense(weights, "head", x.mean((1, 2)))


def _conv(kernel: jax.Array, x: jax.Array, stride: int = 1, padding: str = "SAME") -> jax.Array:
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, (stride, stride), padding, dimension_numbers=numbers)


def _conv_pool(weights: Parameters, layer: str, x: jax.Array, padding: str) -> jax.Array:
    y = _conv(weights[f"{layer}/kernel"], x, padding=padding)
    window = (1, 2, 2, 1)
    y = lax.reduce_window(y, -jnp.inf, lax.max, window, window, "VALID")
    return jax.nn.relu(y + weights[f"{layer}/bias"])


def _dense(weights: Parameters, layer: str, x: jax.Array) -> jax.Array:
    return x @ weights[f"{layer}/kernel"] + weights[f"{layer}/bias"]


def _group_norm(weights: Parameters, layer: str, x: jax.Array) -> jax.Array:
    grouped = x.reshape(*x.shape[:3], GROUPS, -1)
    mean = grouped.mean((1, 2, 4), keepdims=True)
    variance = grouped.var((1, 2, 4), keepdims=True)
    unit = ((grouped - mean) * lax.rsqrt(variance + 1e-5)).reshape(x.shape)
    return unit * weights[f"{layer}/scale"] + weights[f"{layer}/offset"]
