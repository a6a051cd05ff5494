"""The example table gives back what was put in, normalised."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_kd.data import CIFAR100, IMAGENET, Source, example_table, gather, index_table
from fedjax_kd.data.statistics import channel_statistics


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


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_pixel_statistics_are_of_each_place(dtype):
    inputs = np.random.default_rng(2).integers(0, 256, (1500, 3, 4, 2)).astype(dtype)
    inputs[:, 0, 0] = 9  # a corner that never varies
    table = example_table(source_of(inputs, n_test=100), statistics="pixel")
    assert table.mean.shape == table.std.shape == (3, 4, 2)
    train = inputs[:1400].astype(np.float64)
    std = train.std(axis=0)
    std[0, 0] = 1.0
    indices = jnp.asarray([[3, 1450], [7, 7]], jnp.int32)
    got, _ = gather(table, indices)
    expected = (inputs[np.asarray(indices)] - train.mean(axis=0)) / std
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_constants_are_of_bytes_divided_by_255():
    inputs = np.random.default_rng(2).integers(0, 256, (9, 4, 4, 3)).astype(np.uint8)
    for constants in (IMAGENET, CIFAR100):
        got, _ = gather(example_table(source_of(inputs), statistics=constants), jnp.arange(9))
        mean, std = np.asarray(constants)
        np.testing.assert_allclose(got, (inputs / 255.0 - mean) / std, rtol=1e-4, atol=1e-5)
    table = example_table(source_of(inputs.astype(np.float32)), statistics=IMAGENET)
    np.testing.assert_allclose(table.std.ravel(), IMAGENET[1], rtol=1e-6)


def test_statistics_that_do_not_fit_are_refused():
    source = source_of(np.zeros((4, 2, 2, 1), np.uint8))
    with pytest.raises(ValueError, match=r"data\.statistics: .*the inputs have 1 channels"):
        example_table(source, statistics=IMAGENET)
    with pytest.raises(ValueError, match=r"data\.statistics: 'batch' is unknown; allowed: channel"):
        example_table(source, statistics="batch")  # type: ignore[arg-type]


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
