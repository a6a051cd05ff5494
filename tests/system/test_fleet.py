import jax
import numpy as np
import pytest

from fedjax_kd.system import load_profile, noise_w_per_hz, profile_names, sample_fleet

KEY = jax.random.key(4)


@pytest.mark.parametrize("name", profile_names())
def test_draws_lie_in_the_profile_s_ranges(name):
    profile = load_profile(name)
    fleet = sample_fleet(KEY, profile, 500)
    for array, bounds in (
        (fleet.transmit_w, profile.device_transmit_w),
        (fleet.device_clock_hz, profile.device_clock_hz),
        (fleet.distance_m, (profile.nearest_m, profile.radius_m)),
        (fleet.server_clock_hz, profile.server_clock_hz),
    ):
        assert (array >= bounds[0] * (1 - 1e-6)).all()
        assert (array <= bounds[1] * (1 + 1e-6)).all()
    # Uniform over the disc: a quarter of the users lie within half the radius.
    assert 0.18 < np.mean(fleet.distance_m < profile.radius_m / 2) < 0.32
    assert all(np.isfinite(leaf).all() for leaf in fleet)


@pytest.mark.parametrize("name", profile_names())
def test_derived_numbers_follow(name):
    profile = load_profile(name)
    fleet = sample_fleet(KEY, profile, 5)
    noise = noise_w_per_hz(profile.noise_dbm_per_hz)
    gain = np.asarray(fleet.channel_gain, np.float64)
    np.testing.assert_allclose(fleet.uplink_snr_hz, fleet.transmit_w * gain / noise, rtol=1e-5)
    np.testing.assert_allclose(
        fleet.downlink_snr_hz, profile.server_transmit_w * gain / noise, rtol=1e-5
    )
    np.testing.assert_allclose(
        fleet.device_flops_per_s, fleet.device_clock_hz * profile.flops_per_cycle, rtol=1e-6
    )
    np.testing.assert_allclose(
        fleet.server_flops_per_s, fleet.server_clock_hz * profile.flops_per_cycle, rtol=1e-6
    )


@pytest.mark.parametrize("name", profile_names())
def test_a_user_s_draw_does_not_depend_on_how_many_there_are(name):
    few, many = (sample_fleet(KEY, load_profile(name), n) for n in (3, 11))
    for a, b in zip(few, many, strict=True):
        np.testing.assert_array_equal(a, b[:3] if b.ndim else b)


def test_keys_and_overrides_matter():
    profile = load_profile("cell_500m")
    first = sample_fleet(KEY, profile, 4)
    second = sample_fleet(jax.random.key(5), profile, 4, uplink_hz=1e6, downlink_hz=2e6)
    assert (first.distance_m != second.distance_m).all()
    assert first.server_clock_hz != second.server_clock_hz
    assert (first.uplink_hz, second.uplink_hz, second.downlink_hz) == (20e6, 1e6, 2e6)


def test_bad_arguments_are_named():
    profile = load_profile("cell_500m")
    with pytest.raises(ValueError, match="n_users = 0; must be at least 1"):
        sample_fleet(KEY, profile, 0)
    with pytest.raises(ValueError, match=r"uplink_hz = -1.0; must be a finite number > 0"):
        sample_fleet(KEY, profile, 1, uplink_hz=-1.0)
