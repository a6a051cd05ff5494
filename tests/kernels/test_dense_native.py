"""The native dense kernels against the canonical ones, at sizes that cut their tiles everywhere."""

from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedjax_kd.kernels import dense, dense_sgd, native_status, using

pytestmark = pytest.mark.skipif(not native_status().available, reason="no native kernels")

RATES = (jnp.float32(0.1), jnp.float32(0.9))


def case(batch, features, outputs, seed=0):
    rng = np.random.default_rng(seed)
    shapes = (batch, features), (features, outputs), (batch, outputs)
    return tuple(jnp.asarray(rng.standard_normal(shape, np.float32)) for shape in shapes)


def everything(x, w, dy):
    y, pull = jax.vjp(dense, x, w)
    _, pull_sgd = jax.vjp(lambda x, w: dense_sgd(x, w, *RATES), x, w)
    _, pull_w = jax.vjp(lambda w: dense_sgd(x, w, *RATES), w)
    return y, *pull(dy), *pull_sgd(dy), *pull_w(dy)


def exact(x, w, dy):
    x, w, dy = (np.asarray(a, np.float64) for a in (x, w, dy))
    new_w = 0.9 * w - 0.1 * (x.T @ dy)
    return x @ w, dy @ w.T, x.T @ dy, dy @ w.T, new_w, new_w


def assert_close_to_exact(arrays):
    """An error of at most 1e-6 times the sum of the terms' sizes, which float32 sums keep."""
    sizes = exact(*(jnp.abs(a) for a in arrays))
    # The size of a new weight is that of its two parts, which `exact` subtracts.
    sizes = (*sizes[:4], *[2 * np.abs(s) + 0.2 * sizes[2] for s in sizes[4:]])
    with using("native"):
        ours = jax.jit(everything)(*arrays)
    for got, expected, size in zip(ours, exact(*arrays), sizes, strict=True):
        assert np.all(np.abs(np.asarray(got) - expected) <= 1e-6 * size + 1e-6)


@pytest.mark.parametrize(
    "shape",
    [
        (1, 1, 1),
        (1, 784, 256),
        (10, 256, 128),
        (32, 128, 10),
        (32, 400, 120),
        (33, 12, 48),
        (64, 100, 130),
        (70, 13, 49),
        (257, 5, 3),
        (10, 13, 300),
        (20, 30, 257),
        (1, 6, 256),
    ],
)
def test_every_product_is_exact_to_single_precision(shape):
    assert_close_to_exact(case(*shape))


@settings(max_examples=20, deadline=None)
@given(
    batch=st.integers(1, 40),
    features=st.integers(1, 60),
    outputs=st.integers(1, 110),
    seed=st.integers(0, 99),
)
def test_every_product_is_exact_for_any_shape(batch, features, outputs, seed):
    assert_close_to_exact(case(batch, features, outputs, seed))


def test_whole_numbers_come_out_exactly():
    arrays = [jnp.round(3 * a) for a in case(32, 100, 65)]
    with using("native"):
        y, dx, dw, *_ = everything(*arrays)
    for got, expected in zip((y, dx, dw), exact(*arrays), strict=False):
        np.testing.assert_array_equal(got, expected.astype(np.float32))


def test_concurrent_calls_give_the_same_bits():
    cases = [case(*shape) for shape in [(32, 300, 100), (10, 64, 500), (7, 33, 17)]]
    with using("native"):
        compiled = [jax.jit(everything).lower(*arrays).compile() for arrays in cases]
    alone = [run(*arrays) for run, arrays in zip(compiled, cases, strict=True)]

    def once(i):
        return jax.block_until_ready(compiled[i % 3](*cases[i % 3]))

    with ThreadPoolExecutor(4) as pool:
        for i, together in enumerate(pool.map(once, range(120))):
            for got, expected in zip(together, alone[i % 3], strict=True):
                np.testing.assert_array_equal(got, expected)


def test_an_argument_that_lives_on_is_not_overwritten():
    x, w, dy = case(8, 30, 40)
    before = np.array(w)
    with using("native"):
        new_w, again = jax.jit(lambda x, w, dy: (everything(x, w, dy)[4], w + 0.0))(x, w, dy)
    np.testing.assert_array_equal(w, before)
    np.testing.assert_array_equal(again, before)
    assert np.any(np.asarray(new_w) != before)


@pytest.mark.parametrize(("batch", "native"), [(3, False), (4, True), (256, True), (257, False)])
def test_auto_takes_the_native_form_where_it_pays(batch, native):
    x, w, _ = case(batch, 8, 8)
    with using("auto"):
        traced = str(jax.make_jaxpr(dense)(x, w))
    assert ("fedjax_kd_dense_forward" in traced) == native
