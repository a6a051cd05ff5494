"""Q-learning against exhaustive search on many small instances."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from toy_instances import prefix_utility, stack, toy_instance

from fedjax_kd.policy import optimality_gap

FEASIBLE = jnp.ones((5, 6), bool)


@cache
def gaps(instances, seeds, **options):
    keys = jax.random.split(jax.random.key(1), (instances, seeds))

    def one(keys, instance):
        return optimality_gap(keys, partial(prefix_utility, instance), FEASIBLE, **options)

    batch = stack([toy_instance(seed) for seed in range(instances)])
    return jax.jit(jax.vmap(one))(keys, batch)


def test_q_learning_is_close_to_the_optimum():
    gap = gaps(24, 3, episodes=20_000)
    assert gap.best_gap.shape == (24, 3)
    assert float(jnp.min(gap.optimum)) > 0.2  # a gap relative to U means something
    assert float(jnp.min(gap.best_gap)) > -1e-6
    assert float(jnp.max(gap.best_relative_gap)) <= 0.01
    assert float(jnp.mean(gap.greedy_gap)) <= 0.005
    np.testing.assert_array_less(gap.best_gap, gap.greedy_gap + 1e-6)


def test_a_terminal_reward_learns_a_worse_policy():
    incremental = gaps(24, 3, episodes=20_000)
    terminal = gaps(8, 1, episodes=20_000, reward="terminal")
    np.testing.assert_allclose(terminal.optimum, incremental.optimum[:8], rtol=1e-6)
    assert jnp.mean(terminal.greedy_gap) > 2 * jnp.mean(incremental.greedy_gap[:8])
