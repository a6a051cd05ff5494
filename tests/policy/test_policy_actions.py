import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_kd.policy import DEVICE, SERVER, decode, encode, n_students, offloaded, offloaded_before


def test_every_student_and_place_has_its_own_action():
    student, place = np.divmod(np.arange(6, dtype=np.int32), 2)
    actions = encode(jnp.asarray(student), jnp.asarray(place), 3)
    assert sorted(np.asarray(actions).tolist()) == list(range(6))
    back = decode(actions, 3)
    np.testing.assert_array_equal(back[0], student)
    np.testing.assert_array_equal(back[1], place)


def test_action_is_student_plus_m_times_place():
    assert int(encode(jnp.int32(2), jnp.int32(SERVER), 4)) == 6
    assert int(encode(jnp.int32(2), jnp.int32(DEVICE), 4)) == 2


def test_offloaded_counts_by_hand():
    actions = jnp.asarray(
        [3, 0, 5, 4, 2], jnp.int32
    )  # M = 3: server, device, server, server, device
    np.testing.assert_array_equal(offloaded_before(actions, 3), [0, 1, 1, 2, 3])
    assert int(offloaded(actions, 3)) == 3


def test_an_odd_number_of_actions_is_refused():
    assert n_students(8) == 4
    with pytest.raises(ValueError, match="n_actions is 5"):
        n_students(5)
