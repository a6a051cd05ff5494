"""All examples of a study as one device-resident table, and who holds which as index tables."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from fedjax_kd.data.augment import Augmentation, augment, check_augmentation
from fedjax_kd.data.source import Source
from fedjax_kd.data.statistics import Statistics, input_statistics
from fedjax_kd.data.statistics import channel_statistics as channel_statistics


@struct.dataclass
class ExampleTable:
    """Every example once, as stored; E counts training, stock test and extra examples together."""

    inputs: jax.Array  # [E, *shape] uint8 or float32
    labels: jax.Array  # int32 [E]
    mean: jax.Array  # float32 [1, ..., 1, channels] or [*shape], as many axes as an example
    std: jax.Array  # float32, as mean
    augmentation: Augmentation = struct.field(pytree_node=False, default=())  # of training batches


@struct.dataclass
class IndexTable:
    """Ragged rows of indices, padded to one length.

    Beyond a row's count stands the row's first index again (0 in an empty row): a valid index of an
    example that the row holds anyway, to be masked by the count.
    """

    indices: jax.Array  # int32 [K, n_max]
    counts: jax.Array  # int32 [K]


def example_table(
    source: Source, statistics: Statistics = "channel", augmentation: Augmentation = ()
) -> ExampleTable:
    """Put a source's examples, training before test before extra, on the default device.

    Args:
      source: the examples.
      statistics: by what inputs are normalised: mean and standard deviation over the training
        examples of each `channel` (the last axis) or at each `pixel`, or constants per channel.
      augmentation: what `training_batch` does to pictures; () is nothing.

    Raises:
      ValueError: the constants do not fit the inputs, or an augmentation is asked for that they do
        not allow.
    """
    check_augmentation(augmentation, source.input_shape)
    mean, std = input_statistics(source.train_inputs, statistics)
    inputs = source.train_inputs
    if len(source.test_inputs):
        inputs = np.concatenate([inputs, source.test_inputs])
    if source.extra_inputs is not None:
        inputs = np.concatenate([inputs, source.extra_inputs])
    return ExampleTable(
        inputs=jnp.asarray(inputs),
        labels=jnp.asarray(source.labels, jnp.int32),
        mean=jnp.asarray(mean),
        std=jnp.asarray(std),
        augmentation=augmentation,
    )


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


def training_batch(
    table: ExampleTable, indices: jax.Array, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """A batch to train on: `gather`, then the table's augmentation.

    Args:
      table: all examples, and the augmentation.
      indices: int32 [B], each in 0..E-1.
      key: typed key of this batch; not used by a table without augmentation.

    Returns:
      Inputs float32 [B, *shape] and labels int32 [B].
    """
    inputs, labels = gather(table, indices)
    return augment(table.augmentation, key, inputs), labels


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
