import jax
import numpy as np
import pytest

from fedjax_kd.system import load_profile, noise_w_per_hz, profile_names, sample_fleet

KEY = jax.random.key(4)

# Of this key's first two users in cell_500m, before devices had angles.
DISTANCE_M = [444.674255, 247.08461]
CLOCK_HZ = [566381120, 517239616]
TRANSMIT_W = [0.634194434, 0.828091443]
SERVER_CLOCK_HZ = 7.42667725e09


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


def test_weak_devices_draw_from_their_own_range_and_change_nobody_else():
    profile = load_profile("cell_weak_strong")
    weak = np.arange(300) >= 100
    plain, mixed = sample_fleet(KEY, profile, 300), sample_fleet(KEY, profile, 300, weak=weak)
    for name, a, b in zip(plain._fields, plain, mixed, strict=True):
        if name in ("device_clock_hz", "device_flops_per_s"):
            np.testing.assert_array_equal(a[:100], b[:100])
            assert (b[100:] < a[100:]).all()
        elif name == "device_capacitance":
            assert a.shape == ()
            np.testing.assert_array_equal(b[:100], np.broadcast_to(a, 100))
            np.testing.assert_allclose(b[100:], 1e-26, rtol=1e-6)
        else:
            np.testing.assert_array_equal(a, b)
    assert profile.weak_device_clock_hz is not None
    low, high = profile.weak_device_clock_hz
    assert low * (1 - 1e-6) <= mixed.device_clock_hz[100:].min()
    assert mixed.device_clock_hz[100:].max() <= high * (1 + 1e-6)


def test_strong_devices_of_the_weak_and_strong_cell_are_those_of_the_plain_one():
    mixed = sample_fleet(KEY, load_profile("cell_weak_strong"), 8, weak=np.arange(8) >= 4)
    plain = sample_fleet(KEY, load_profile("cell_500m"), 8)
    np.testing.assert_array_equal(mixed.device_clock_hz[:4], plain.device_clock_hz[:4])
    np.testing.assert_array_equal(mixed.channel_gain, plain.channel_gain)


def test_draws_are_what_they_were_before_there_were_angles():
    fleet = sample_fleet(KEY, load_profile("cell_500m"), 2)
    np.testing.assert_allclose(fleet.distance_m, DISTANCE_M, rtol=1e-6)
    np.testing.assert_allclose(fleet.device_clock_hz, CLOCK_HZ, rtol=1e-6)
    np.testing.assert_allclose(fleet.transmit_w, TRANSMIT_W, rtol=1e-6)
    np.testing.assert_allclose(fleet.server_clock_hz, SERVER_CLOCK_HZ, rtol=1e-6)


def test_weak_devices_that_the_profile_does_not_know_are_refused():
    profile = load_profile("cell_500m")
    with pytest.raises(ValueError, match=r"2 of 3 devices are weak, .* no weak_device_clock_hz"):
        sample_fleet(KEY, profile, 3, weak=np.asarray([True, True, False]))
    with pytest.raises(ValueError, match=r"weak: int64 of shape \(2,\); must be one bool for each"):
        sample_fleet(KEY, profile, 3, weak=np.asarray([1, 0]))
    none = sample_fleet(KEY, profile, 3, weak=np.zeros(3, bool))
    plain = sample_fleet(KEY, profile, 3)
    np.testing.assert_array_equal(none.device_clock_hz, plain.device_clock_hz)
