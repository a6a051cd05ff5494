import jax.numpy as jnp
import numpy as np

from fedjax_kd.allocation.shannon import STEEPEST_ELASTICITY, normalise, slope_factor, snr_per_share


def _phi(nats):
    series = 0.5 - nats / 6 + nats**2 / 24 - nats**3 / 120
    direct = (np.exp(-nats) - 1 + nats) / np.maximum(nats, 1e-9) ** 2
    return np.where(nats < 1e-3, series, direct)


def test_slope_factor_is_accurate_from_no_signal_to_no_noise():
    ratio = np.logspace(-8, 30, 4001).astype(np.float32)
    nats = np.log1p(ratio.astype(np.float64))
    ours = slope_factor(jnp.asarray(ratio), jnp.asarray(nats, jnp.float32))
    np.testing.assert_allclose(ours, _phi(nats), rtol=1e-6)


def test_slope_factor_is_minus_the_derivative_of_the_delay():
    # d/db of 1 / (b ln(1 + c/b)) at b = 2, c = 6, by central differences in float64.
    delay = lambda b: 1 / (b * np.log(1 + 6 / b))  # noqa: E731
    derivative = (delay(2 + 1e-5) - delay(2 - 1e-5)) / 2e-5
    phi = float(slope_factor(jnp.float32(3.0), jnp.log(jnp.float32(4.0))))
    np.testing.assert_allclose(-phi / 2**2, derivative, rtol=1e-6)


def test_elasticity_of_the_slope_factor_never_exceeds_its_bound():
    log_ratio = np.linspace(np.log(1e-3), np.log(1e28), 200_001)
    nats = np.log1p(np.exp(log_ratio))
    elasticity = -np.gradient(np.log(_phi(nats)), log_ratio)
    assert elasticity.min() >= 0
    assert 0.999 * STEEPEST_ELASTICITY < elasticity.max() <= STEEPEST_ELASTICITY


def test_ratio_stays_finite_for_a_share_of_zero():
    assert np.isfinite(snr_per_share(jnp.zeros(2), jnp.asarray([1e3, 1e30]))).all()


def test_normalise_sums_to_one_or_stays_zero():
    np.testing.assert_allclose(normalise(jnp.asarray([1.0, 3.0, 0.0])), [0.25, 0.75, 0.0])
    np.testing.assert_array_equal(normalise(jnp.zeros(3)), np.zeros(3))
