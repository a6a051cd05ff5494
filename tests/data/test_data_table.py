"""The example table gives back what was put in, normalised."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_kd.data import Source, example_table, gather, index_table
from fedjax_kd.data.table import channel_statistics


def source_of(inputs, n_test=0):
    n_train = len(inputs) - n_test
    labels = np.arange(len(inputs), dtype=np.int32) % 3
    return Source(
        "tiny",
        inputs[:n_train],
        labels[:n_train],
        inputs[n_train:],
        labels[n_train:],
        3,
        ("a", "b", "c"),
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_gather_normalises_by_the_training_examples(dtype):
    rng = np.random.default_rng(0)
    inputs = rng.integers(0, 256, (40, 5, 4, 3)).astype(dtype)
    source = source_of(inputs, n_test=10)
    table = example_table(source)
    assert table.inputs.dtype == dtype
    indices = jnp.asarray([[0, 35], [7, 7]], jnp.int32)
    got, labels = jax.jit(gather)(table, indices)
    assert got.shape == (2, 2, 5, 4, 3)
    assert got.dtype == jnp.float32
    train = inputs[:30].astype(np.float64)
    mean, std = train.mean(axis=(0, 1, 2)), train.std(axis=(0, 1, 2))
    expected = (inputs[np.asarray(indices)] - mean) / std
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(labels, np.asarray(indices) % 3)
    assert labels.dtype == jnp.int32


def test_one_index_gives_one_example():
    table = example_table(source_of(np.arange(48, dtype=np.float32).reshape(4, 2, 6)))
    got, label = gather(table, jnp.asarray(2, jnp.int32))
    assert got.shape == (2, 6)
    assert label.shape == ()
    assert table.mean.shape == (1, 6)


def test_a_channel_that_never_varies_is_only_shifted():
    for dtype in (np.uint8, np.float32):
        inputs = np.full((6, 2, 2, 1), 7, dtype)
        mean, std = channel_statistics(inputs)
        assert mean.dtype == std.dtype == np.float32
        assert mean.item() == 7.0
        assert std.item() == 1.0


def test_index_table_pads_with_the_rows_own_example():
    rows = [np.asarray([4, 2, 9]), np.asarray([], np.int64), np.asarray([5])]
    table = index_table(rows)
    np.testing.assert_array_equal(table.indices, [[4, 2, 9], [0, 0, 0], [5, 5, 5]])
    np.testing.assert_array_equal(table.counts, [3, 0, 1])
    assert table.indices.dtype == table.counts.dtype == jnp.int32
    assert index_table(rows, length=6).indices.shape == (3, 6)
    with pytest.raises(ValueError, match="length: 2, but the longest row has 3"):
        index_table(rows, length=2)


def test_tables_are_pytrees():
    table = index_table([np.asarray([1, 2]), np.asarray([3])])
    picked = jax.tree.map(lambda leaf: leaf[0], table)
    assert picked.indices.shape == (2,)
