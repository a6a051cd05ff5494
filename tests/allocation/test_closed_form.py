import jax
import jax.numpy as jnp
import numpy as np
from allocation_instances import BAND_HZ, bisect_float64, instance, random_batch, resources

from fedjax_kd.allocation.closed_form import bisection_shares, square_root_shares

_bisect = jax.jit(bisection_shares)


def test_square_root_rule_by_hand():
    # sqrt(1) : sqrt(4) : sqrt(0) = 1 : 2 : 0
    np.testing.assert_allclose(square_root_shares(jnp.asarray([1.0, 4.0, 0.0])), [1 / 3, 2 / 3, 0])


def test_identical_users_share_equally():
    shares = bisection_shares(jnp.full(7, 3e6), jnp.full(7, 1e4))
    np.testing.assert_allclose(shares, np.full(7, 1 / 7), rtol=1e-6)


def test_bisection_agrees_with_float64():
    batch = random_batch(12, seed=3)
    for i in range(12):
        load, snr_hz, _ = resources(instance(batch, i))[1]
        assert snr_hz is not None
        ours = _bisect(jnp.asarray(load, jnp.float32), jnp.asarray(snr_hz / BAND_HZ, jnp.float32))
        oracle = bisect_float64(load, snr_hz, BAND_HZ) / BAND_HZ
        np.testing.assert_allclose(ours, oracle, rtol=5e-6, atol=1e-9)


def test_bisection_agrees_with_float64_where_noise_drowns_the_signal():
    load = np.array([1e6, 2e7, 3e5])
    snr_hz = np.array([1e3, 1e6, 1e9])  # c / B = 1e-4, 0.1, 100
    ours = bisection_shares(
        jnp.asarray(load, jnp.float32), jnp.asarray(snr_hz / BAND_HZ, jnp.float32)
    )
    oracle = bisect_float64(load, snr_hz, BAND_HZ) / BAND_HZ
    np.testing.assert_allclose(ours, oracle, rtol=5e-6)


def test_nobody_to_serve_gives_nothing():
    np.testing.assert_array_equal(bisection_shares(jnp.zeros(3), jnp.ones(3)), np.zeros(3))
