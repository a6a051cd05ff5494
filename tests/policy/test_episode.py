import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedjax_kd.policy.episode import backward_update, rewards, roll_out


def test_roll_out_follows_the_count_and_the_exploration():
    # M = 2, so actions 2 and 3 are at the server. User 1 offloads only after user 0 did.
    greedy = jnp.asarray([[2, 0, 0], [0, 3, 0], [1, 0, 2]], jnp.int32)
    actions, counts = roll_out(greedy, jnp.full(3, -1, jnp.int32), 2)
    np.testing.assert_array_equal(actions, [2, 3, 2])
    np.testing.assert_array_equal(counts, [0, 1, 2])
    actions, counts = roll_out(greedy, jnp.asarray([1, -1, -1], jnp.int32), 2)
    np.testing.assert_array_equal(actions, [1, 0, 1])
    np.testing.assert_array_equal(counts, [0, 0, 0])


@pytest.mark.parametrize("kind", ["incremental", "terminal"])
@settings(max_examples=25, deadline=None)
@given(utility=hnp.arrays(np.float32, 6, elements=st.floats(-4, 4, width=16)))
def test_rewards_add_up_to_the_final_utility(kind, utility):
    total = float(jnp.sum(rewards(jnp.asarray(utility), kind)))
    np.testing.assert_allclose(total, utility[-1] - utility[0], atol=1e-5)


def test_terminal_reward_comes_last():
    utility = jnp.asarray([0.5, 7.0, -3.0, 2.0])
    np.testing.assert_array_equal(rewards(utility, "terminal"), [0, 0, 1.5])
    np.testing.assert_array_equal(rewards(utility, "incremental"), [6.5, -10, 5])


def test_backward_update_by_hand():
    rows = jnp.asarray([[1.0, 2.0], [4.0, 0.0]])
    new = backward_update(
        rows,
        jnp.asarray([0, 1], jnp.int32),
        jnp.asarray([1.0, 10.0]),
        jnp.float32(0.5),
        jnp.float32(0.8),
    )
    # User 1: 0 + .5 (10 - 0) = 5; the row's best is then 5, not 4.
    # User 0: 1 + .5 (1 + .8 * 5 - 1) = 3.
    np.testing.assert_allclose(new, [[3.0, 2.0], [4.0, 5.0]], rtol=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31 - 1), st.floats(0, 1), st.floats(0, 1))
def test_backward_update_is_the_textbook_loop(seed, learning_rate, discount):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(7, 4)).astype(np.float32)
    actions = rng.integers(0, 4, 7).astype(np.int32)
    # Some user has one feasible action only, the one taken.
    rows[3] = -np.inf
    rows[3, actions[3]] = 0.25
    reward = rng.normal(size=7).astype(np.float32)
    new = jax.jit(backward_update)(
        rows, actions, reward, np.float32(learning_rate), np.float32(discount)
    )
    expected, future = rows.astype(np.float64), 0.0
    for n in reversed(range(7)):
        value = expected[n, actions[n]]
        expected[n, actions[n]] += learning_rate * (reward[n] + discount * future - value)
        future = expected[n].max()
    np.testing.assert_allclose(new, expected, rtol=1e-5, atol=1e-5)
