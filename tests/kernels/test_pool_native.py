"""Pooling with bias and ReLU: the native kernel against the composition of the parts."""

from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from fedjax_kd.kernels import max_pool, native_status, pool_bias_relu, using

native = pytest.mark.skipif(not native_status().available, reason="no native kernels")


def parts(x, bias, window=(2, 2)):
    return jax.nn.relu(max_pool(x, window) + bias[None, None, None, :])


def case(shape, window=(2, 2), seed=0, ties=False):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape, np.float32)
    bias = rng.standard_normal(shape[3:], np.float32)
    if ties:
        x, bias = np.round(x), np.round(bias)
    out = (shape[0], shape[1] // window[0], shape[2] // window[1], shape[3])
    return jnp.asarray(x), jnp.asarray(bias), jnp.asarray(rng.standard_normal(out, np.float32))


def value_and_pull(f, window, x, bias, dy):
    y, pull = jax.vjp(lambda x, b: f(x, b, window), x, bias)
    return y, *pull(dy)


def assert_equals_the_parts(x, bias, dy, window=(2, 2)):
    with using("native"):
        y, dx, dbias = value_and_pull(pool_bias_relu, window, x, bias, dy)
    with using("canonical"):
        expected_y, expected_dx, expected_dbias = value_and_pull(parts, window, x, bias, dy)
    np.testing.assert_array_equal(y, expected_y)
    np.testing.assert_array_equal(dx, expected_dx)
    terms = np.sum(np.abs(dy), axis=(0, 1, 2))
    assert np.all(np.abs(dbias - expected_dbias) <= 1e-6 * terms + 1e-7)


@pytest.mark.parametrize("form", ["canonical", pytest.param("native", marks=native)])
def test_value_and_gradients_by_hand(form):
    x = jnp.array([[1.0, 5.0, 0.0, 1.0], [5.0, 2.0, 1.0, 0.0]]).reshape(1, 2, 4, 1)
    with using(form):
        y, dx, dbias = value_and_pull(
            pool_bias_relu, (2, 2), x, jnp.array([-1.0]), jnp.array([3.0, 7.0]).reshape(1, 1, 2, 1)
        )
    np.testing.assert_array_equal(y.ravel(), [4, 0])  # the first of two maxima; 1 - 1 is cut
    np.testing.assert_array_equal(dx[0, :, :, 0], [[0, 3, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_array_equal(dbias, [3])


@native
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(
    ("shape", "window"),
    [
        ((2, 28, 28, 6), (2, 2)),
        ((3, 10, 10, 16), (2, 2)),
        ((1, 7, 9, 33), (2, 2)),
        ((2, 9, 11, 3), (2, 2)),
        ((1, 5, 5, 1), (2, 2)),
        ((2, 6, 7, 8), (3, 2)),
        ((2, 1, 21, 64), (1, 2)),
        ((2, 8, 7, 5), (3, 2)),
        ((1, 1, 1, 1), (1, 1)),
        ((1, 6, 7, 3), (5, 3)),
    ],
)
def test_native_equals_the_parts(shape, window, ties):
    assert_equals_the_parts(*case(shape, window, ties=ties), window)


def by_windows(x, bias, dy, window):
    """The same in NumPy, window by window."""
    rows, columns = window
    y, dx, dbias = np.zeros_like(dy), np.zeros_like(x), np.zeros_like(bias)
    for b, i, j, c in np.ndindex(dy.shape):
        block = x[b, i * rows : (i + 1) * rows, j * columns : (j + 1) * columns, c]
        y[b, i, j, c] = max(block.max() + bias[c], 0)
        if y[b, i, j, c] > 0:
            row, column = np.unravel_index(np.argmax(block), block.shape)
            dx[b, i * rows + row, j * columns + column, c] = dy[b, i, j, c]
            dbias[c] += dy[b, i, j, c]
    return y, dx, dbias


@native
@settings(max_examples=20, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(2, 7), st.integers(2, 7), st.integers(1, 35)),
    window=st.sampled_from([(2, 2), (1, 2), (2, 1)]),
    ties=st.booleans(),
    seed=st.integers(0, 99),
)
def test_native_is_right_for_any_shape(shape, window, ties, seed):
    arrays = case(shape, window, seed, ties)
    with using("native"):
        run = jax.jit(lambda *a: value_and_pull(pool_bias_relu, window, *a))
        y, dx, dbias = run(*arrays)
    x, bias, dy = (np.asarray(a) for a in arrays)
    expected_y, expected_dx, expected_dbias = by_windows(x, bias, dy, window)
    np.testing.assert_array_equal(y, expected_y)
    np.testing.assert_array_equal(dx, expected_dx)
    np.testing.assert_allclose(dbias, expected_dbias, rtol=1e-5, atol=1e-5)


@native
@pytest.mark.parametrize("place", [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_a_number_and_infinity_are_passed_on_as_by_the_parts(place, value):
    x, bias, dy = case((1, 4, 4, 20))
    x = x.at[0, place[0], place[1], :].set(value)
    assert_equals_the_parts(x, bias, dy)
    with using("native"):
        y = pool_bias_relu(x, bias)
    if np.isnan(value):
        assert np.all(np.isnan(y[0, 0, 0]))
    assert np.all(np.isfinite(y[0, 1:]))


@native
def test_concurrent_calls_give_the_same_bits():
    arrays = case((4, 20, 20, 24))
    with using("native"):
        run = jax.jit(lambda *a: value_and_pull(pool_bias_relu, (2, 2), *a))
        run = run.lower(*arrays).compile()
    alone = run(*arrays)
    with ThreadPoolExecutor(4) as pool:
        for together in pool.map(lambda _: jax.block_until_ready(run(*arrays)), range(80)):
            for got, expected in zip(together, alone, strict=True):
                np.testing.assert_array_equal(got, expected)


@native
def test_loop_vmap_and_two_devices_agree_with_single_calls():
    cases = [case((2, 6, 6, 5), seed=seed) for seed in range(2)]
    stacked = tuple(jnp.stack(arrays) for arrays in zip(*cases, strict=True))

    def single(x, bias, dy):
        return value_and_pull(pool_bias_relu, (2, 2), x, bias, dy)

    def block(*arrays):
        return tuple(a[None] for a in single(*(a[0] for a in arrays)))

    split = jax.sharding.PartitionSpec("clients")
    mesh = jax.make_mesh((2,), ("clients",), axis_types=(jax.sharding.AxisType.Auto,))
    sharded = jax.shard_map(block, mesh=mesh, in_specs=split, out_specs=split)
    with using("native"):
        expected = [jnp.stack(a) for a in zip(*(single(*c) for c in cases), strict=True)]
        outcomes = [
            lax.map(lambda a: single(*a), stacked),
            jax.vmap(single)(*stacked),
            jax.jit(sharded)(*stacked),
        ]
    for outcome in outcomes:
        for got, plain in zip(outcome, expected, strict=True):
            np.testing.assert_array_equal(got, plain)


@native
@pytest.mark.parametrize(("window", "taken"), [((2, 2), True), ((1, 2), False)])
def test_auto_takes_the_native_form_where_it_pays(window, taken):
    x, bias, _ = case((1, 4, 4, 3))
    with using("auto"):
        traced = str(jax.make_jaxpr(lambda x, b: pool_bias_relu(x, b, window))(x, bias))
    assert ("fedjax_kd_pool_forward" in traced) == taken


@pytest.mark.parametrize(
    ("bias", "message"),
    [
        (jnp.ones(2), r"bias must be float32 of shape \(3,\); got float32 of \(2,\)"),
        (jnp.ones(3, jnp.bfloat16), "got bfloat16"),
    ],
)
def test_a_bias_that_does_not_fit_is_refused(bias, message):
    with pytest.raises(ValueError, match=message):
        pool_bias_relu(jnp.ones((1, 2, 2, 3)), bias)


def test_images_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="larger than the image, 4 x 1"):
        pool_bias_relu(jnp.ones((1, 4, 1, 1)), jnp.ones(1))
