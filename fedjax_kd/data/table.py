"""All examples of a study as one device-resident table, and who holds which as index tables."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from fedjax_kd.data.source import Source


@struct.dataclass
class ExampleTable:
    """Every example once, as stored; E counts training and stock test examples together."""

    inputs: jax.Array  # [E, *shape] uint8 or float32
    labels: jax.Array  # int32 [E]
    mean: jax.Array  # float32 [1, ..., 1, channels], as many axes as an example
    std: jax.Array  # float32, as mean


@struct.dataclass
class IndexTable:
    """Ragged rows of indices, padded to one length.

    Beyond a row's count stands the row's first index again (0 in an empty row): a valid index of an
    example that the row holds anyway, to be masked by the count.
    """

    indices: jax.Array  # int32 [K, n_max]
    counts: jax.Array  # int32 [K]


def example_table(source: Source) -> ExampleTable:
    """Put a source's examples, training before test, on the default device.

    Mean and standard deviation are per channel (the last axis), over the training examples; a
    channel that never varies gets a standard deviation of one.
    """
    mean, std = channel_statistics(source.train_inputs)
    inputs = source.train_inputs
    if len(source.test_inputs):
        inputs = np.concatenate([inputs, source.test_inputs])
    return ExampleTable(
        inputs=jnp.asarray(inputs),
        labels=jnp.asarray(source.labels, jnp.int32),
        mean=jnp.asarray(mean),
        std=jnp.asarray(std),
    )


def channel_statistics(inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each channel, float32 [1, ..., 1, channels].

    Bytes are counted by value, which is exact and needs no copy in floating point.

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
    std = np.where(variance > 1e-12, np.sqrt(np.maximum(variance, 0.0)), 1.0)
    shape = (1,) * (inputs.ndim - 2) + (channels,)
    return mean.astype(np.float32).reshape(shape), std.astype(np.float32).reshape(shape)


def gather(table: ExampleTable, indices: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Normalised inputs float32 [..., *shape] and labels int32 [...] of some examples.

    Args:
      table: all examples.
      indices: int32 [...], each in 0..E-1 (others are clipped into this range).
    """
    inputs = jnp.take(table.inputs, indices, axis=0, mode="clip").astype(jnp.float32)
    lead = (1,) * indices.ndim
    mean = table.mean.reshape(lead + table.mean.shape)
    std = table.std.reshape(lead + table.std.shape)
    return (inputs - mean) / std, jnp.take(table.labels, indices, axis=0, mode="clip")


def index_table(rows: Sequence[np.ndarray], length: int | None = None) -> IndexTable:
    """Pad rows of indices to one length.

    Args:
      rows: K index arrays; some may be empty.
      length: the common length, so that tables of several seeds have one shape; by default the
        longest row's, and at least one.

    Raises:
      ValueError: a row is longer than `length`.
    """
    counts = np.asarray([len(row) for row in rows], np.int32)
    longest = int(counts.max(initial=1))
    if length is not None and length < longest:
        raise ValueError(f"length: {length}, but the longest row has {longest} indices")
    indices = np.zeros((len(rows), longest if length is None else length), np.int32)
    for padded, row in zip(indices, rows, strict=True):
        if len(row):
            padded[:] = row[0]
            padded[: len(row)] = row
    return IndexTable(indices=jnp.asarray(indices), counts=jnp.asarray(counts))
