"""One episode of Q-learning over users decided in turn: roll-out, rewards, backward update.

The state before user n is (n, number of users offloaded so far). It moves with the actions only,
never with the rewards, so the three steps separate: the actions come first, the utilities of all
prefixes are asked for once, and the table is updated last, from the last user to the first.

Reference: paper notes on Wang et al. 2023, arXiv:2303.06155; states, rewards and update order are
our assumption.
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax

RewardKind = Literal["incremental", "terminal"]


def roll_out(greedy: jax.Array, explored: jax.Array, students: int) -> tuple[jax.Array, jax.Array]:
    """Decides the users in turn.

    Args:
        greedy: int32 [N, N], the best action in state (user, offloaded so far).
        explored: int32 [N], the action to take, or a negative number for the greedy one.
        students: M.

    Returns:
        actions int32 [N] and offloaded int32 [N], the count before each user.
    """
    users = greedy.shape[0]

    def decide(n, carry):
        count, actions, counts = carry
        action = jnp.where(explored[n] < 0, greedy[n, count], explored[n])
        return count + action // students, actions.at[n].set(action), counts.at[n].set(count)

    empty = jnp.zeros(users, jnp.int32)
    _, actions, counts = lax.fori_loop(0, users, decide, (jnp.int32(0), empty, empty))
    return actions, counts


def rewards(prefix_utility: jax.Array, kind: RewardKind) -> jax.Array:
    """Turns U after 0..N users, float32 [N+1], into the rewards of the N steps, float32 [N].

    ``incremental``: r_n = U_n - U_{n-1}; ``terminal``: U_N - U_0 at the last step and 0 before.
    Both add up to U_N - U_0.
    """
    if kind == "incremental":
        return prefix_utility[1:] - prefix_utility[:-1]
    total = prefix_utility[-1] - prefix_utility[0]
    return jnp.zeros_like(prefix_utility[1:]).at[-1].set(total)


def backward_update(
    rows: jax.Array,
    actions: jax.Array,
    step_rewards: jax.Array,
    learning_rate: jax.Array,
    discount: jax.Array,
) -> jax.Array:
    """Updates the values met in an episode from the last user to the first.

    ``Q(s_n, a_n) += alpha * (r_n + gamma * max_a Q(s_{n+1}, a) - Q(s_n, a_n))`` where the row of
    s_{n+1} already holds its new value. Only one entry of that row has changed, so its maximum is
    that of the others, taken for all users at once, against the value just computed; what remains
    in sequence is one number per user.

    Args:
        rows: float32 [N, A], Q(s_n, .) of the states met; -inf where infeasible.
        actions: int32 [N], the actions taken.
        step_rewards: float32 [N].
        learning_rate: float32 [], alpha.
        discount: float32 [], gamma.

    Returns:
        The rows with one entry each updated, float32 [N, A].
    """
    taken = jnp.arange(rows.shape[1], dtype=jnp.int32)[None, :] == actions[:, None]
    before = jnp.take_along_axis(rows, actions[:, None], axis=-1)[:, 0]
    others = jnp.max(jnp.where(taken, -jnp.inf, rows), axis=-1)
    # After the last user nothing is left to earn: the best of the next state is 0.
    next_others = jnp.concatenate([others[1:], jnp.zeros(1, rows.dtype)])

    def step(next_value, inputs):
        value, reward, other = inputs
        target = reward + discount * jnp.maximum(other, next_value)
        value = value + learning_rate * (target - value)
        return value, value

    nothing = jnp.asarray(-jnp.inf, rows.dtype)
    _, values = lax.scan(step, nothing, (before, step_rewards, next_others), reverse=True)
    return jnp.where(taken, values[:, None], rows)
