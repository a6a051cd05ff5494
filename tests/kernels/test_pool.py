import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from fedjax_kd.kernels import global_average_pool, max_pool


def plain(x, window):
    sizes = (1, *window, 1)
    return lax.reduce_window(x, -jnp.inf, lax.max, sizes, sizes, "VALID")


@pytest.mark.parametrize("shape", [(2, 6, 8, 3), (2, 7, 5, 3), (1, 2, 3, 1)])
@pytest.mark.parametrize("window", [(2, 2), (1, 2)])
@pytest.mark.parametrize("ties", [False, True])
def test_value_and_gradient_are_those_of_reduce_window(shape, window, ties):
    x = np.random.default_rng(0).standard_normal(shape, np.float32)
    if ties:
        x = np.round(x)

    @jax.jit
    def both(x):
        weights = jnp.cos(jnp.arange(plain(x, window).size, dtype=jnp.float32))

        def loss(pool, x):
            return jnp.sum(pool(x, window).reshape(-1) * weights)

        return [(f(x, window), jax.grad(lambda x, f=f: loss(f, x))(x)) for f in (max_pool, plain)]

    ours, expected = both(x)
    np.testing.assert_array_equal(ours[0], expected[0])
    np.testing.assert_array_equal(ours[1], expected[1])


def test_a_tie_goes_to_the_first_in_row_major_order():
    x = jnp.array([[0.0, 2.0], [2.0, 2.0]]).reshape(1, 2, 2, 1)
    dx = jax.grad(lambda x: 3.0 * jnp.sum(max_pool(x)))(x)
    np.testing.assert_array_equal(dx[0, :, :, 0], [[0, 3], [0, 0]])


def test_rows_and_columns_that_fill_no_window_have_no_gradient():
    dx = jax.grad(lambda x: jnp.sum(max_pool(x)))(jnp.ones((1, 3, 3, 1)))
    np.testing.assert_array_equal(dx[0, :, :, 0], [[1, 0, 0], [0, 0, 0], [0, 0, 0]])


def test_not_a_number_is_passed_on():
    x = jnp.zeros((1, 2, 4, 1)).at[0, 1, 0, 0].set(jnp.nan)
    np.testing.assert_array_equal(jnp.isnan(max_pool(x))[0, 0, :, 0], [True, False])


def test_global_average_by_hand():
    x = jnp.arange(8.0).reshape(1, 2, 2, 2)
    np.testing.assert_array_equal(global_average_pool(x), [[3, 4]])


@pytest.mark.parametrize(
    ("shape", "window", "message"),
    [
        ((4, 4, 1), (2, 2), r"x must be \[B, H, W, C\]"),
        ((1, 4, 1, 1), (2, 2), "larger than the image, 4 x 1"),
        ((1, 4, 4, 1), (0, 2), "between 1 and 127"),
    ],
)
def test_what_does_not_fit_is_refused(shape, window, message):
    with pytest.raises(ValueError, match=message):
        max_pool(jnp.ones(shape), window)
