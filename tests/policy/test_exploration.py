import jax
import jax.numpy as jnp
import numpy as np

from fedjax_kd.policy.exploration import (
    draw_exploration,
    epsilon_at,
    pack_feasible,
    uniform_feasible,
)

MASK = jnp.asarray([[True, False, True, True], [False, False, False, True], [True] * 4])


def schedule(episode, episodes=1000, start=1.0, end=0.02, decay=0.7):
    return epsilon_at(
        jnp.asarray(episode, jnp.int32), episodes, *map(jnp.float32, (start, end, decay))
    )


def test_epsilon_by_hand():
    episode = [0, 350, 700, 999]
    np.testing.assert_allclose(schedule(episode), [1.0, 0.51, 0.02, 0.02], rtol=1e-6)


def test_epsilon_without_decay_is_its_end():
    np.testing.assert_allclose(schedule([0, 500], decay=0.0), [0.02, 0.02], rtol=1e-6)


def test_feasible_actions_come_first():
    packed = pack_feasible(MASK)
    np.testing.assert_array_equal(packed.count, [3, 1, 4])
    np.testing.assert_array_equal(packed.order[0, :3], [0, 2, 3])
    assert int(packed.order[1, 0]) == 3


def test_uniforms_at_both_ends_are_feasible():
    packed = pack_feasible(MASK)
    np.testing.assert_array_equal(uniform_feasible(jnp.zeros(3), packed), [0, 3, 0])
    below_one = jnp.full(3, np.nextafter(np.float32(1), np.float32(0)))
    np.testing.assert_array_equal(uniform_feasible(below_one, packed), [3, 3, 3])
    np.testing.assert_array_equal(uniform_feasible(jnp.ones(3), packed), [3, 3, 3])


def test_draws_follow_epsilon_and_are_uniform_over_the_feasible():
    episodes = 6000
    draw = jax.vmap(draw_exploration, in_axes=(None, 0, None, None))
    drawn = np.asarray(
        draw(jax.random.key(0), jnp.arange(episodes), jnp.float32(0.5), pack_feasible(MASK))
    )
    for user, mask in enumerate(np.asarray(MASK)):
        share = np.bincount(drawn[:, user] + 1, minlength=5) / episodes
        expected = np.concatenate([[0.5], 0.5 * mask / mask.sum()])
        # Five standard deviations of a binomial share.
        np.testing.assert_allclose(share, expected, atol=5 * np.sqrt(0.25 / episodes))
        assert (share[1:][~mask] == 0).all()


def test_a_draw_depends_on_its_episode_only():
    packed, key, epsilon = pack_feasible(MASK), jax.random.key(3), jnp.float32(0.5)
    draw = jax.vmap(draw_exploration, in_axes=(None, 0, None, None))
    block = draw(key, jnp.arange(8, dtype=jnp.int32), epsilon, packed)
    alone = draw_exploration(key, jnp.int32(5), epsilon, packed)
    np.testing.assert_array_equal(block[5], alone)
