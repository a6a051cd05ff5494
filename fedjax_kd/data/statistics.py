"""Means and standard deviations by which inputs are normalised."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

_BLOCK = 1024  # examples that are held in double precision at a time

_Mean = Annotated[float, Field(strict=True, allow_inf_nan=False)]
_Std = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
Constants = tuple[tuple[_Mean, ...], tuple[_Std, ...]]
"""Mean and standard deviation of each channel; of bytes divided by 255 where inputs are bytes."""

Statistics = Literal["channel", "pixel"] | Constants

IMAGENET: Constants = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""ImageNet's constants, by which pFedAFM's released code (arXiv:2404.17847) normalises CIFAR-10."""

CIFAR100: Constants = ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762))
"""The constants by which pFedAFM's released code (arXiv:2404.17847) normalises CIFAR-100."""


def input_statistics(inputs: np.ndarray, statistics: Statistics) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of inputs [E, *shape], float32, shaped to broadcast to `shape`.

    Args:
      inputs: uint8 or float32, channels last.
      statistics: `channel` or `pixel`, computed from `inputs`, or constants per channel.

    Raises:
      ValueError: an unknown name, or not one positive constant per channel.
    """
    if isinstance(statistics, str):
        if statistics not in ("channel", "pixel"):
            raise ValueError(
                f"data.statistics: {statistics!r} is unknown; allowed: channel, pixel, or the"
                " means and the standard deviations of the channels"
            )
        return channel_statistics(inputs) if statistics == "channel" else pixel_statistics(inputs)
    mean, std = (np.asarray(values, np.float64) for values in statistics)
    channels = inputs.shape[-1]
    if mean.shape != (channels,) or std.shape != (channels,) or (std <= 0).any():
        raise ValueError(
            f"data.statistics: {mean.tolist()} and {std.tolist()}; the inputs have {channels}"
            " channels, and each needs a mean and a standard deviation above 0"
        )
    scale = 255.0 if inputs.dtype == np.uint8 else 1.0
    shape = (1,) * (inputs.ndim - 2) + (channels,)
    return (
        (scale * mean).astype(np.float32).reshape(shape),
        (scale * std).astype(np.float32).reshape(shape),
    )


def channel_statistics(inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel, float32 [1, ..., 1, channels].

    A channel that never varies gets a standard deviation of one. Bytes are counted by value, which
    is exact and needs no copy in floating point.

    Args:
      inputs: [E, *shape] uint8 or float32, channels last.
    """
    channels = inputs.shape[-1]
    if inputs.dtype == np.uint8:
        values = np.arange(256, dtype=np.float64)
        counts = np.stack(
            [np.bincount(inputs[..., c].ravel(), minlength=256) for c in range(channels)]
        )
        weights = counts / counts.sum(axis=1, keepdims=True)
        mean = weights @ values
        variance = weights @ values**2 - mean**2
    else:
        flat = inputs.reshape(-1, channels)
        mean = flat.mean(axis=0, dtype=np.float64)
        variance = flat.var(axis=0, dtype=np.float64)
    shape = (1,) * (inputs.ndim - 2) + (channels,)
    return mean.astype(np.float32).reshape(shape), _std(variance).reshape(shape)


def pixel_statistics(inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation at each place and channel, float32 [*shape].

    What never varies (a picture's corner, say) gets a standard deviation of one.

    Args:
      inputs: [E, *shape] uint8 or float32.
    """
    blocks = range(0, len(inputs), _BLOCK)
    total = sum(inputs[b : b + _BLOCK].sum(axis=0, dtype=np.float64) for b in blocks)
    mean = np.asarray(total / len(inputs))
    squares = sum(((inputs[b : b + _BLOCK] - mean) ** 2).sum(axis=0) for b in blocks)
    return mean.astype(np.float32), _std(np.asarray(squares / len(inputs)))


def _std(variance: np.ndarray) -> np.ndarray:
    varies = variance > 1e-12
    return np.where(varies, np.sqrt(np.maximum(variance, 0.0)), 1.0).astype(np.float32)
