import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_kd.kernels import BatchStatistics, batch_norm

FRESH = BatchStatistics(jnp.zeros(3), jnp.ones(3))


def plain(x, scale, offset, mask):
    rows = mask[:, None, None, None]
    count = jnp.sum(mask) * x.shape[1] * x.shape[2]
    mean = jnp.sum(x * rows, axis=(0, 1, 2), keepdims=True) / count
    variance = jnp.sum((x - mean) ** 2 * rows, axis=(0, 1, 2), keepdims=True) / count
    unit = (x - mean) / jnp.sqrt(variance + 1e-3)
    return unit * scale[None, None, None, :] + offset[None, None, None, :]


def arguments(batch=5):
    rng = np.random.default_rng(2)
    x = 1.0 + 2.0 * rng.standard_normal((batch, 4, 3, 3), np.float32)
    scale, offset = rng.standard_normal((2, 3), np.float32)
    return jnp.asarray(x), jnp.asarray(scale), jnp.asarray(offset)


@pytest.mark.parametrize("real", [5, 3, 1])
def test_value_and_gradients_are_those_of_the_formula(real):
    x, scale, offset = arguments()
    mask = (jnp.arange(5) < real).astype(jnp.float32)
    weights = np.random.default_rng(3).standard_normal(x.shape, np.float32)  # padded rows too

    @jax.jit
    def both(*args):
        def run(norm):
            def loss(*args):
                y = norm(*args)
                return jnp.sum(y * weights), y

            return jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)(*args)

        def ours(x, scale, offset):
            return batch_norm(x, scale, offset, FRESH, train=True, mask=mask)[0]

        return run(ours), run(lambda x, scale, offset: plain(x, scale, offset, mask))

    ours, expected = both(x, scale, offset)
    chex.assert_trees_all_close(ours, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", [bool, jnp.float32])
def test_padding_does_not_reach_the_real_examples(kind):
    x, scale, offset = arguments()
    mask = jnp.array([1, 1, 1, 0, 0]).astype(kind)
    dirty = x.at[3:].set(1e3)
    small, small_stats = batch_norm(x[:3], scale, offset, FRESH, train=True)
    full, full_stats = batch_norm(dirty, scale, offset, FRESH, train=True, mask=mask)
    np.testing.assert_allclose(full[:3], small, atol=1e-5)
    chex.assert_trees_all_close(full_stats, small_stats, atol=1e-6)


def test_running_statistics_by_hand():
    x = jnp.array([1.0, 3.0]).reshape(2, 1, 1, 1)
    running = BatchStatistics(jnp.array([4.0]), jnp.array([5.0]))
    one, zero = jnp.ones(1), jnp.zeros(1)
    _, moved = batch_norm(x, one, zero, running, train=True, momentum=0.75)
    np.testing.assert_allclose(moved.mean, [0.75 * 4 + 0.25 * 2])
    np.testing.assert_allclose(moved.variance, [0.75 * 5 + 0.25 * 1])
    y, kept = batch_norm(x, one, zero, running, train=False, epsilon=4.0)
    np.testing.assert_allclose(y.reshape(-1), [-1, -1 / 3], rtol=1e-6)
    assert kept is running


def test_a_batch_of_padding_alone_changes_nothing_and_stays_finite():
    x, scale, offset = arguments()
    running = BatchStatistics(jnp.full(3, 0.5), jnp.full(3, 2.0))

    def loss(x):
        y, moved = batch_norm(x, scale, offset, running, train=True, mask=jnp.zeros(5))
        return jnp.sum(y) * 0.0, moved

    dx, moved = jax.grad(loss, has_aux=True)(x)
    assert bool(jnp.all(dx == 0))
    chex.assert_trees_all_equal(moved, running)


@pytest.mark.parametrize(
    ("x", "channels", "mask", "message"),
    [
        ((2, 4, 3), 3, None, r"x must be \[B, H, W, C\]"),
        ((2, 4, 4, 3), 4, None, r"must be \[3\]"),
        ((2, 4, 4, 3), 3, (3,), r"mask must be \[2\]"),
    ],
)
def test_what_does_not_fit_is_refused(x, channels, mask, message):
    mask = None if mask is None else jnp.ones(mask)
    affine = jnp.ones(channels), jnp.zeros(channels)
    with pytest.raises(ValueError, match=message):
        batch_norm(jnp.ones(x), *affine, FRESH, train=True, mask=mask)
