import jax
import numpy as np
import pytest
from system_cases import hand_fleet

from fedjax_kd.system import load_profile, peer_gain, positions_m, profile_names, sample_fleet

KEY = jax.random.key(4)


def test_positions_lie_at_the_users_distances_all_around():
    fleet = sample_fleet(KEY, load_profile("cell_500m"), 2000)
    east, north = (np.asarray(axis, np.float64) for axis in positions_m(fleet))
    np.testing.assert_allclose(np.hypot(east, north), fleet.distance_m, rtol=1e-5)
    for quarter in ((east > 0) & (north > 0), (east < 0) & (north > 0), (north < 0) & (east < 0)):
        assert 0.22 < quarter.mean() < 0.28
    # Uniform over a disc: the mean of both axes is the middle.
    assert abs(east.mean()) < 20
    assert abs(north.mean()) < 20


def test_gain_between_two_devices_by_hand():
    profile = load_profile("cell_500m")
    gain = peer_gain(hand_fleet(), profile)  # 100 and 200 m out in one direction
    expected = 17 / (47.86 * 100**2.75)
    np.testing.assert_allclose(gain[0, 1], expected, rtol=1e-5)
    square = hand_fleet()._replace(angle_rad=np.asarray([0.0, np.pi / 2], np.float32))
    expected = 17 / (47.86 * np.hypot(100, 200) ** 2.75)
    np.testing.assert_allclose(peer_gain(square, profile)[0, 1], expected, rtol=1e-5)


@pytest.mark.parametrize("name", profile_names())
def test_gains_are_the_same_both_ways_and_no_better_than_at_the_least_distance(name):
    profile = load_profile(name)
    fleets = jax.vmap(lambda key: sample_fleet(key, profile, 30))(jax.random.split(KEY, 2))
    gain = peer_gain(fleets, profile)
    assert gain.shape == (2, 30, 30)
    np.testing.assert_array_equal(gain, gain.swapaxes(1, 2))
    assert (gain > 0).all()
    own = np.diagonal(gain, axis1=1, axis2=2)
    np.testing.assert_allclose(own, own[0, 0])
    assert gain.max() == own[0, 0]
