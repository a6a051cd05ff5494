import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

from fedjax_kd.kernels import conv2d, using

CANONICAL = "b01f_01io->b01f"
QUICK = {"xla_backend_optimization_level": 0}  # less time in the compiler; the same numbers


@pytest.fixture(autouse=True)
def canonical_form():
    with using("canonical"):
        yield


def normals(seed, *shapes):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape, np.float32) for shape in shapes]


def plain(x, w, *, stride=(1, 1), padding="SAME"):
    return lax.conv_general_dilated(
        x, w, stride, padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def value_and_gradients(conv, x, w, stride, padding):
    def loss(x, w):
        y = conv(x, w, stride=stride, padding=padding)
        return jnp.sum(jnp.sin(y) * y), y

    (_, y), (dx, dw) = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(x, w)
    return y, dx, dw


def assert_as_autodiff(image, window, stride, padding, seed=0):
    x, w = normals(seed, image, (*window, image[3], 3))
    w = w / np.float32(np.sqrt(np.prod(window) * image[3]))

    @partial(jax.jit, compiler_options=QUICK)
    def both(x, w):
        return [value_and_gradients(conv, x, w, stride, padding) for conv in (conv2d, plain)]

    for name, got, expected in zip(("y", "dx", "dw"), *both(x, w), strict=True):
        scale = max(1.0, float(jnp.max(jnp.abs(expected))))
        np.testing.assert_allclose(got, expected, atol=2e-5 * scale, rtol=0, err_msg=name)


def test_sums_of_neighbours_by_hand():
    x = jnp.arange(9.0).reshape(1, 3, 3, 1)
    y = conv2d(x, jnp.ones((3, 3, 1, 1)))
    np.testing.assert_array_equal(y[0, :, :, 0], [[8, 15, 12], [21, 36, 27], [20, 33, 24]])


@pytest.mark.parametrize("window", [(1, 1), (3, 3), (5, 5)])
@pytest.mark.parametrize("stride", [(1, 1), (2, 2)])
@pytest.mark.parametrize("padding", ["SAME", "VALID", ((1, 2), (0, 3))])
def test_gradients_are_those_of_autodiff(window, stride, padding):
    assert_as_autodiff((2, 7, 6, 2), window, stride, padding)


@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    rows=st.integers(5, 9),
    columns=st.integers(5, 9),
    window=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    pads=st.tuples(*[st.tuples(st.integers(0, 4), st.integers(0, 4))] * 2),
    seed=st.integers(0, 100),
)
def test_gradients_are_those_of_autodiff_in_odd_corners(rows, columns, window, stride, pads, seed):
    assert_as_autodiff((2, rows, columns, 1), window, stride, pads, seed)


@pytest.mark.parametrize("stride", [(1, 1), (2, 1)])
def test_padding_wider_than_the_kernel_reads_nothing_beyond_the_gradient(stride):
    """Its input gradient has negative padding, where XLA on a CPU would read outside of the array.

    Many fresh arrays, so that what lies beside them is not zero.
    """
    pads = ((3, 1), (3, 2))
    for seed in range(5):
        x, w = normals(seed, (2, 7, 8, 7), (3, 3, 7, 4))
        y, pull = jax.vjp(lambda x, w: conv2d(x, w, stride=stride, padding=pads), x, w)
        dx, dw = pull(jnp.ones_like(y))
        # All of dy is one: each weight's gradient is the sum of the inputs that it meets.
        total = jnp.sum(jnp.abs(x)) + jnp.sum(jnp.abs(w)) * y.size
        assert jnp.all(jnp.abs(dx) < jnp.sum(jnp.abs(w)))
        assert jnp.all(jnp.abs(dw) < total)


def test_a_sequence_is_an_image_of_one_row():
    assert_as_autodiff((3, 1, 11, 4), (1, 5), (1, 2), "SAME")


def test_vmap_is_a_loop_over_clients():
    x, w = normals(0, (3, 2, 6, 6, 2), (3, 3, 3, 2, 4))

    def gradients(x, w):
        return value_and_gradients(conv2d, x, w, (1, 1), "SAME")

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-3, rtol=1e-4),
        jax.jit(jax.vmap(gradients))(x, w),
        jax.jit(lambda x, w: lax.map(lambda pair: gradients(*pair), (x, w)))(x, w),
    )


def loop_layouts(conv):
    """Dimension labels of all convolutions of a compiled training loop over four layers."""
    layers = [((5, 5), 1, "VALID"), ((3, 3), 1, "SAME"), ((3, 3), 2, "SAME"), ((1, 1), 2, "SAME")]
    weights = [
        jnp.full((*window, c_in, c_out), 0.1)
        for (window, _, _), c_in, c_out in zip(layers, (2, 16, 16, 16), (16,) * 4, strict=True)
    ]

    def loss(weights, x):
        for w, (_, stride, padding) in zip(weights, layers, strict=True):
            x = jnp.tanh(conv(x, w, stride=(stride, stride), padding=padding))
        return jnp.sum(x)

    def train(weights, x):
        def step(_, carry):
            weights, x = carry
            gradients, dx = jax.grad(loss, argnums=(0, 1))(weights, x)
            return jax.tree.map(lambda w, g: w - 0.01 * g, (weights, x), (gradients, dx))

        return lax.fori_loop(0, 3, step, (weights, x))

    hlo = jax.jit(train).lower(weights, jnp.ones((8, 14, 14, 2))).compile().as_text() or ""
    assert " while(" in hlo
    return re.findall(r" convolution\(.*dim_labels=([^\s,]+)", hlo)


def test_a_training_loop_has_canonical_convolutions_only():
    layouts = loop_layouts(conv2d)
    assert len(layouts) >= 9  # three layers that are convolutions, forward and two gradients each
    assert set(layouts) == {CANONICAL}


def test_autodiff_alone_would_not():
    assert set(loop_layouts(plain)) - {CANONICAL}


@pytest.mark.parametrize(
    ("x", "w", "options", "message"),
    [
        ((4, 4, 1), (3, 3, 1, 1), {}, r"x must be \[B, H, W, Ci\]"),
        ((1, 4, 4, 2), (3, 3, 1, 1), {}, "takes 1 input channels, but x has 2"),
        ((1, 4, 4, 1), (3, 3, 1, 1), {"stride": (0, 1)}, "stride must be two integers"),
        ((1, 4, 4, 1), (3, 3, 1, 1), {"padding": "FULL"}, "padding must be 'SAME', 'VALID'"),
        ((1, 4, 4, 1), (3, 3, 1, 1), {"padding": ((0, -1), (0, 0))}, "each at least 0"),
        ((1, 4, 4, 1), (5, 5, 1, 1), {"padding": "VALID"}, "5 rows, more than the 4"),
    ],
)
def test_what_does_not_fit_is_refused(x, w, options, message):
    with pytest.raises(ValueError, match=message):
        conv2d(jnp.ones(x), jnp.ones(w), **options)
