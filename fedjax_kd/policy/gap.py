"""How far Q-learning stays below the exact optimum, for few users.

The measure behind the claim that Q-learning is good enough: one instance small enough for
exhaustive search, several seeds, the distance in U of both decisions that Q-learning returns.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from fedjax_kd.policy.episode import RewardKind
from fedjax_kd.policy.exhaustive import exhaustive
from fedjax_kd.policy.q_learning import PrefixUtility, QLearningRates, q_learning


class OptimalityGap(NamedTuple):
    """Q-learning beside the optimum of one instance, over S seeds.

    Attributes:
        optimum: float32 [], the highest U of any feasible decision.
        best_utility: float32 [S], U of the best decision seen.
        greedy_utility: float32 [S], U of the greedy policy.
        best_gap: float32 [S], optimum - best_utility; not below 0 but for rounding.
        greedy_gap: float32 [S], optimum - greedy_utility.
        best_relative_gap: float32 [S], best_gap divided by the magnitude of the optimum.
    """

    optimum: jax.Array
    best_utility: jax.Array
    greedy_utility: jax.Array
    best_gap: jax.Array
    greedy_gap: jax.Array
    best_relative_gap: jax.Array


def optimality_gap(
    keys: jax.Array,
    prefix_utility: PrefixUtility,
    feasible: jax.Array,
    rates: QLearningRates | None = None,
    *,
    episodes: int,
    reward: RewardKind = "incremental",
    limit: int = 300_000,
    chunk: int = 1024,
) -> OptimalityGap:
    """Runs Q-learning once per key and exhaustive search once, on one instance.

    Vmaps over instances like `q_learning`.

    Args:
        keys: typed keys [S].
        prefix_utility: int32 [N] -> float32 [N+1].
        feasible: bool [N, A].
        rates: traced numbers of Q-learning; the defaults if None.
        episodes: as in `q_learning`.
        reward: as in `q_learning`.
        limit: as in `exhaustive`.
        chunk: as in `exhaustive`.

    Returns:
        OptimalityGap.

    Raises:
        ValueError: as `q_learning` and `exhaustive` do.
    """
    exact = exhaustive(lambda a: prefix_utility(a)[-1], feasible, limit=limit, chunk=chunk)

    def learn(key):
        return q_learning(
            key, prefix_utility, feasible, rates, episodes=episodes, trace_points=1, reward=reward
        )

    learned = jax.vmap(learn)(keys)
    best_gap = exact.utility[None] - learned.best_utility
    return OptimalityGap(
        optimum=exact.utility,
        best_utility=learned.best_utility,
        greedy_utility=learned.greedy_utility,
        best_gap=best_gap,
        greedy_gap=exact.utility[None] - learned.greedy_utility,
        best_relative_gap=best_gap / jnp.abs(exact.utility)[None],
    )
