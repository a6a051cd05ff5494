import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_kd.kernels import group_norm


def plain(x, scale, offset, groups):
    batch, rows, columns, channels = x.shape
    split = x.reshape(batch, rows * columns, groups, channels // groups)
    mean = jnp.mean(split, axis=(1, 3), keepdims=True)
    variance = jnp.mean((split - mean) ** 2, axis=(1, 3), keepdims=True)
    unit = ((split - mean) / jnp.sqrt(variance + 1e-5)).reshape(x.shape)
    return unit * scale[None, None, None, :] + offset[None, None, None, :]


@pytest.mark.parametrize(
    ("shape", "groups"),
    [((3, 5, 4, 6), 2), ((2, 3, 3, 4), 4), ((2, 4, 4, 4), 1), ((1, 1, 1, 8), 2)],
)
def test_value_and_gradients_are_those_of_the_formula(shape, groups):
    rng = np.random.default_rng(1)
    unit, weights = rng.standard_normal((2, *shape), np.float32)
    scale, offset = rng.standard_normal((2, shape[3]), np.float32)
    x = 3.0 + 2.0 * unit

    @jax.jit
    def both(*args):
        def run(norm):
            def loss(*args):
                y = norm(*args, groups)
                return jnp.sum(y * weights), y

            return jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)(*args)

        return run(group_norm), run(plain)

    ours, expected = both(x, scale, offset)
    chex.assert_trees_all_close(ours, expected, atol=1e-4, rtol=1e-4)


def test_each_group_of_each_example_is_normalised_by_itself():
    x = jnp.array([-1.0, 1.0, -100.0, 100.0]).reshape(1, 1, 1, 4)
    y = group_norm(x, jnp.ones(4), jnp.zeros(4), 2)
    np.testing.assert_allclose(y[0, 0, 0], [-1, 1, -1, 1], atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "channels", "groups", "message"),
    [
        ((2, 4, 6), 6, 2, r"x must be \[B, H, W, C\]"),
        ((2, 4, 4, 6), 4, 2, r"must be \[6\]; got \(4,\)"),
        ((2, 4, 4, 6), 6, 4, "groups must divide the 6 channels; got 4"),
    ],
)
def test_what_does_not_fit_is_refused(shape, channels, groups, message):
    with pytest.raises(ValueError, match=message):
        group_norm(jnp.ones(shape), jnp.ones(channels), jnp.zeros(channels), groups)
