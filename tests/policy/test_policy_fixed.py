import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_kd.policy import FIXED_POLICIES, fixed_place, fixed_student, greedy, uniform

# M = 2: actions (student 0, device), (1, device), (0, server), (1, server).
SOLO = jnp.asarray([[0.1, 0.9, 0.3, 0.2], [0.8, 0.1, 0.2, 0.4], [0.5, 0.6, 0.7, 0.1]])
MASK = jnp.asarray([[True, False, True, True], [True] * 4, [False, False, True, True]])
ALL = jnp.ones((3, 4), bool)
BY_COST = jnp.asarray([1, 0], jnp.int32)  # student 1 is the cheapest


def actions_of(name, feasible=MASK, solo=SOLO):
    return np.asarray(FIXED_POLICIES[name](jax.random.key(0), solo, feasible, BY_COST))


@pytest.mark.parametrize(
    ("name", "free", "masked"),
    [
        ("greedy", [1, 0, 2], [2, 0, 2]),
        ("all_device", [1, 0, 1], [0, 0, 2]),  # user 2 has nothing feasible at its device
        ("all_server", [2, 3, 2], [2, 3, 2]),
        ("smallest", [1, 3, 1], [3, 3, 3]),  # student 1 at the better feasible place
        ("largest", [2, 0, 2], [2, 0, 2]),
    ],
)
def test_by_hand(name, free, masked):
    np.testing.assert_array_equal(actions_of(name, ALL), free)
    np.testing.assert_array_equal(actions_of(name, MASK), masked)


@pytest.mark.parametrize("name", FIXED_POLICIES)
def test_only_feasible_actions_jitted_and_vmapped(name):
    rng = np.random.default_rng(0)
    feasible = rng.random((20, 6, 8)) < 0.3
    feasible[..., 5] |= ~feasible.any(-1)
    solo = rng.normal(size=feasible.shape).astype(np.float32)
    solo[0, 0, 0] = np.nan
    solo[1, :, 3] = -np.inf
    keys = jax.random.split(jax.random.key(1), 20)
    by_cost = jnp.arange(4, dtype=jnp.int32)
    policy = FIXED_POLICIES[name]
    batched = jax.jit(jax.vmap(policy, in_axes=(0, 0, 0, None)))(keys, solo, feasible, by_cost)
    assert batched.dtype == jnp.int32
    assert np.take_along_axis(feasible, np.asarray(batched)[..., None], -1).all()
    alone = policy(keys[7], jnp.asarray(solo[7]), jnp.asarray(feasible[7]), by_cost)
    np.testing.assert_array_equal(batched[7], alone)


def test_a_user_without_its_student_takes_its_best_action():
    feasible = jnp.asarray([[False, True, False, True]])
    solo = jnp.asarray([[9.0, 0.2, 9.0, 0.3]])
    np.testing.assert_array_equal(fixed_student(solo, feasible, 0), [3])


def test_nan_is_the_worst_yet_still_feasible():
    solo = jnp.asarray([[jnp.nan, -5.0, 1.0, 1.0]])
    np.testing.assert_array_equal(greedy(solo, jnp.asarray([[True, True, False, False]])), [1])
    np.testing.assert_array_equal(greedy(solo, jnp.asarray([[True, False, False, False]])), [0])


def test_uniform_draws_every_feasible_action_alike():
    keys = jax.random.split(jax.random.key(2), 4000)
    drawn = np.asarray(jax.vmap(uniform, in_axes=(0, None))(keys, MASK))
    share = np.stack([(drawn == action).mean(0) for action in range(4)], axis=1)
    expected = np.asarray(MASK) / np.asarray(MASK).sum(1, keepdims=True)
    np.testing.assert_allclose(share, expected, atol=5 * np.sqrt(0.25 / 4000))


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"place is 2: allowed are 0 .* 1"):
        fixed_place(SOLO, ALL, 2)
    with pytest.raises(ValueError, match=r"student is 2: it must be in 0\.\.1"):
        fixed_student(SOLO, ALL, 2)
    with pytest.raises(ValueError, match=r"solo_utility has shape \(3, 2\)"):
        greedy(SOLO[:, :2], ALL)
    with pytest.raises(ValueError, match="user 1 without an action"):
        uniform(jax.random.key(0), ALL.at[1].set(False))
