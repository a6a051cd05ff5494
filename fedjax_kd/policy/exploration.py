"""Epsilon-greedy exploration, drawn ahead of the episode.

What an episode explores does not depend on what it earns, so the whole of its randomness is one
array, and the episodes of a block are drawn together. One uniform number per user does for both
questions: below epsilon the user explores, and where in [0, epsilon) it fell chooses the action.

Reference: paper notes on Wang et al. 2023, arXiv:2303.06155; the schedule is our assumption
(linear from 1 to 0.02 over the first 70 % of the episodes).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

GREEDY = -1


class FeasibleActions(NamedTuple):
    """Feasible actions of each user, packed to the left.

    Attributes:
        order: int32 [N, A], the user's feasible actions in rising order, then the infeasible ones.
        count: int32 [N], how many of them are feasible.
    """

    order: jax.Array
    count: jax.Array


def pack_feasible(feasible: jax.Array) -> FeasibleActions:
    """Packs a mask bool [N, A] so that a uniform feasible action is one gather."""
    order = jnp.argsort(~feasible, axis=-1, stable=True).astype(jnp.int32)
    return FeasibleActions(order, jnp.sum(feasible, axis=-1, dtype=jnp.int32))


def epsilon_at(
    episode: jax.Array, episodes: int, start: jax.Array, end: jax.Array, decay: jax.Array
) -> jax.Array:
    """Linear schedule: ``start + (end - start) * min(1, episode / (decay * episodes))``.

    Args:
        episode: int32 [...], counted from 0.
        episodes: length of the whole run.
        start: float32 [], probability of exploring in episode 0.
        end: float32 [], probability once the decay is over.
        decay: float32 [], share of the run over which it falls; 0 means `end` throughout.

    Returns:
        float32 [...].
    """
    done = (episode / jnp.int32(episodes)).astype(jnp.float32)
    share = jnp.where(done < decay, done / jnp.maximum(decay, 1e-12), 1.0)
    return start + (end - start) * share


def uniform_feasible(uniform: jax.Array, packed: FeasibleActions) -> jax.Array:
    """Maps uniforms float32 [N] in [0, 1) to one feasible action per user, int32 [N]."""
    slot = jnp.floor(uniform * packed.count.astype(jnp.float32)).astype(jnp.int32)
    slot = jnp.minimum(slot, packed.count - 1)
    return jnp.take_along_axis(packed.order, slot[:, None], axis=-1)[:, 0]


def draw_exploration(
    key: jax.Array, episode: jax.Array, epsilon: jax.Array, packed: FeasibleActions
) -> jax.Array:
    """Draws what one episode explores.

    Args:
        key: typed key of the whole run; the episode is folded in, so an episode's draws do not
            depend on how episodes are grouped into blocks.
        episode: int32 [].
        epsilon: float32 [], probability of exploring, for each user on its own.
        packed: the feasible actions of the N users.

    Returns:
        int32 [N]: the action to explore, or -1 where the greedy action is to be taken.
    """
    number = jax.random.uniform(jax.random.fold_in(key, episode), packed.count.shape)
    explores = number < epsilon
    within = jnp.where(explores, number / jnp.maximum(epsilon, 1e-12), 0.0)
    return jnp.where(explores, uniform_feasible(within, packed), jnp.int32(GREEDY))
