import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from fedjax_kd.system import macro_cell_gain, noise_w_per_hz, power_law_gain, shannon_rate


def test_rate_by_hand():
    # 1 MHz at c = 3 MHz: 1e6 log2(4); 2 Hz at c = 14 Hz: 2 log2(8).
    rate = shannon_rate(jnp.asarray([1e6, 2.0]), jnp.asarray([3e6, 14.0]))
    np.testing.assert_allclose(rate, [2e6, 6.0], rtol=1e-6)


def test_rate_of_no_band_is_zero_with_a_finite_gradient():
    rate, gradient = jax.value_and_grad(shannon_rate)(jnp.float32(0), jnp.float32(1e9))
    assert rate == 0.0
    assert np.isfinite(gradient)


def test_rate_of_a_vanishing_band_vanishes():
    rate = shannon_rate(jnp.asarray([1e-3, 1e-12, 1e-30]), jnp.float32(1e10))
    assert np.isfinite(rate).all()
    assert (np.diff(rate) < 0).all()
    assert rate[-1] < 1e-25


def test_rate_saturates_at_c_over_ln_2():
    np.testing.assert_allclose(
        shannon_rate(jnp.float32(1e12), jnp.float32(1e3)), 1e3 / np.log(2), rtol=1e-5
    )


@settings(deadline=None)
@given(st.floats(1.0, 1e9), st.floats(1.001, 100.0), st.floats(1.0, 1e15))
def test_rate_grows_with_the_band_but_less_than_in_proportion(band_hz, factor, snr_hz):
    narrow, wide = shannon_rate(
        jnp.asarray([band_hz, band_hz * factor], jnp.float32), jnp.float32(snr_hz)
    )
    assert narrow * (1 - 1e-6) <= wide <= narrow * factor * (1 + 1e-5)


def test_noise_by_hand():
    np.testing.assert_allclose(noise_w_per_hz(-174.0), 3.981072e-21, rtol=1e-6)
    np.testing.assert_allclose(noise_w_per_hz(30.0), 1.0)


def test_gains_by_hand():
    # 100^2.75 = 316227.77; 17 / (47.86 x 316227.77) = 1.123257e-6
    np.testing.assert_allclose(power_law_gain(jnp.float32(100.0)), 1.123257e-6, rtol=1e-5)
    # 1 km: 10^-12.81; 100 m: 128.1 - 37.6 = 90.5 dB; 10 dB more by shadowing.
    gains = macro_cell_gain(jnp.asarray([1000.0, 100.0, 1000.0]), jnp.asarray([0.0, 0.0, 10.0]))
    np.testing.assert_allclose(gains, [10**-12.81, 10**-9.05, 10**-13.81], rtol=2e-5)
