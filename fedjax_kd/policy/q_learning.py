"""Tabular Q-learning of who trains which student where, in pure JAX.

One episode decides the N users in turn. State: (user n, number of users offloaded so far);
action: (student, place), see `actions.py`; reward: what the user adds to the utility U of the
users decided so far, so that the rewards of an episode add up to U of its decision. The table is
updated backwards along the episode, and the best decision met on the way is kept.

The utility enters as one function of a whole decision that answers for all its prefixes at once:
``prefix_utility(actions int32 [N]) -> float32 [N+1]``. Entry n is U when only the first n users
are decided; entry 0 is U of nobody, usually 0. It is called once per episode and must be
traceable; the room knows nothing of what lies behind it.

Reference: Wang, Cheng, Ma, Sun, Chai, Lu 2023, arXiv:2303.06155. That Q-learning outputs the
models and places is the paper's; states, actions, rewards, rates and the schedule of epsilon are
our reconstruction.

Expected on the tiny task (5 users, 3 students, 20,000 episodes): the best decision seen is within
1 % of the exhaustive optimum, and the greedy policy about 0.002 below it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax

from fedjax_kd.policy.checks import check_feasible, check_prefix_utility
from fedjax_kd.policy.episode import RewardKind, backward_update, rewards, roll_out
from fedjax_kd.policy.exploration import GREEDY, draw_exploration, epsilon_at, pack_feasible

PrefixUtility = Callable[[jax.Array], jax.Array]

# Episodes whose exploration is drawn together: enough to hide the generator's fixed cost, few
# enough that the block (BLOCK x N integers) stays in the first-level cache.
_BLOCK = 64


@struct.dataclass
class QLearningRates:
    """Traced numbers of Q-learning, all float32 []; defaults are our assumption.

    Attributes:
        learning_rate: alpha in (0, 1].
        discount: gamma in [0, 1]; 1 because an episode is finite and order should not matter.
        epsilon_start: probability of exploring in the first episode.
        epsilon_end: probability of exploring after the decay.
        epsilon_decay: share of the episodes over which epsilon falls linearly.
    """

    learning_rate: jax.typing.ArrayLike = 0.1
    discount: jax.typing.ArrayLike = 1.0
    epsilon_start: jax.typing.ArrayLike = 1.0
    epsilon_end: jax.typing.ArrayLike = 0.02
    epsilon_decay: jax.typing.ArrayLike = 0.7


class LearningTrace(NamedTuple):
    """The course of learning at P points, spaced evenly in the logarithm of the episode.

    Attributes:
        episode: int32 [P], episodes played when the point was taken; the last is `episodes`.
        episode_utility: float32 [P], mean U of the episodes since the point before.
        best_utility: float32 [P], U of the best decision seen so far.
        greedy_utility: float32 [P], U of the greedy roll-out at this point.
    """

    episode: jax.Array
    episode_utility: jax.Array
    best_utility: jax.Array
    greedy_utility: jax.Array


class QLearningResult(NamedTuple):
    """What Q-learning found.

    Attributes:
        q: float32 [N, N, A], action values of (user, offloaded so far); 0 where never visited,
            -inf where infeasible. A count above n cannot occur before user n.
        visits: int32 [N, N, A], how often each entry was updated.
        greedy_actions: int32 [N], roll-out of the final table.
        greedy_utility: float32 [], its U.
        best_actions: int32 [N], the best decision among all episodes and all roll-outs of the
            trace, the final one included; the earliest among equals.
        best_utility: float32 [], its U; -inf if every utility was NaN.
        trace: the course of learning.
    """

    q: jax.Array
    visits: jax.Array
    greedy_actions: jax.Array
    greedy_utility: jax.Array
    best_actions: jax.Array
    best_utility: jax.Array
    trace: LearningTrace


class _Learner(NamedTuple):
    """What an episode changes; shapes as in `QLearningResult`."""

    q: jax.Array
    visits: jax.Array
    greedy: jax.Array  # int32 [N, N], argmax of q, kept up to date where an episode passes
    best_actions: jax.Array
    best_utility: jax.Array


def trace_episodes(episodes: int, trace_points: int) -> np.ndarray:
    """Returns the episodes at which the trace is taken: int32 [P], P <= trace_points, rising."""
    if trace_points == 1:
        return np.asarray([episodes], np.int32)
    points = np.unique(np.round(np.geomspace(1, episodes, trace_points)).astype(np.int32))
    points[-1] = episodes
    return points


def _keep_best(learner: _Learner, actions: jax.Array, utility: jax.Array) -> _Learner:
    better = utility > learner.best_utility
    return learner._replace(
        best_actions=jnp.where(better, actions, learner.best_actions),
        best_utility=jnp.where(better, utility, learner.best_utility),
    )


def _put(table: jax.Array, at: tuple[jax.Array, ...], values: jax.Array) -> jax.Array:
    """Writes values [N] at one entry per user, which are therefore distinct and in order."""
    return table.at[at].set(values, unique_indices=True, indices_are_sorted=True)


def q_learning(
    key: jax.Array,
    prefix_utility: PrefixUtility,
    feasible: jax.Array,
    rates: QLearningRates | None = None,
    *,
    episodes: int,
    trace_points: int = 200,
    reward: RewardKind = "incremental",
) -> QLearningResult:
    """Learns a table of action values and keeps the best decision seen.

    Everything but `episodes`, `trace_points` and `reward` may be batched with `jax.vmap`: keys,
    rates, `feasible`, and the instance through arrays that `prefix_utility` closes over. Memory
    does not grow with the number of episodes. Wrap the call in `jax.jit` where it is repeated.

    Args:
        key: typed key; the only source of randomness.
        prefix_utility: int32 [N] -> float32 [N+1], U after the first 0..N users are decided.
        feasible: bool [N, A], A = 2M; an infeasible action is never taken and never enters a
            maximum. Every user needs a feasible action.
        rates: traced numbers; the defaults if None.
        episodes: decisions tried, at least 1.
        trace_points: points of the trace at most.
        reward: "incremental", or "terminal" (all of U at the last user), kept for the comparison
            because the state is then far from Markov.

    Returns:
        QLearningResult.

    Raises:
        ValueError: before anything is compiled, naming the argument, its value and what is
            allowed. A user without a feasible action is found only where `feasible` is concrete;
            inside `jax.jit` such a user makes its own values NaN.
    """
    users, n_actions = check_feasible(feasible)
    students = n_actions // 2
    check_prefix_utility(prefix_utility, users)
    if episodes < 1 or trace_points < 1:
        raise ValueError(
            f"episodes is {episodes} and trace_points {trace_points}: both must be at least 1"
        )
    if reward not in get_args(RewardKind):
        raise ValueError(f"reward is {reward!r}: allowed are {', '.join(get_args(RewardKind))}")
    rates = QLearningRates() if rates is None else rates
    learning_rate = jnp.asarray(rates.learning_rate, jnp.float32)
    discount = jnp.asarray(rates.discount, jnp.float32)
    schedule = [rates.epsilon_start, rates.epsilon_end, rates.epsilon_decay]
    schedule = [jnp.asarray(number, jnp.float32) for number in schedule]
    packed = pack_feasible(feasible)
    order = jnp.arange(users, dtype=jnp.int32)
    all_greedy = jnp.full(users, GREEDY, jnp.int32)
    draw_block = jax.vmap(draw_exploration, in_axes=(None, 0, 0, None))

    def play(learner: _Learner, explored: jax.Array) -> tuple[_Learner, jax.Array]:
        actions, counts = roll_out(learner.greedy, explored, students)
        utility = prefix_utility(actions)
        learner = _keep_best(learner, actions, utility[-1])
        rows = backward_update(
            learner.q[order, counts], actions, rewards(utility, reward), learning_rate, discount
        )
        value = jnp.take_along_axis(rows, actions[:, None], axis=-1)[:, 0]
        best = jnp.argmax(rows, axis=-1).astype(jnp.int32)
        entry = (order, counts, actions)
        learner = learner._replace(
            q=_put(learner.q, entry, value),
            visits=_put(learner.visits, entry, learner.visits[entry] + 1),
            greedy=_put(learner.greedy, (order, counts), best),
        )
        return learner, utility[-1]

    def interval(carry, bounds):
        learner, _ = carry
        start, stop = bounds

        def block(index, state):
            first = start + index * _BLOCK
            episode = first + jnp.arange(_BLOCK, dtype=jnp.int32)
            epsilon = epsilon_at(episode, episodes, *schedule)
            explored = draw_block(key, episode, epsilon, packed)

            def one(e, state):
                learner, utility = play(state[0], explored[e])
                return learner, state[1] + utility

            return lax.fori_loop(0, jnp.minimum(stop - first, _BLOCK), one, state)

        blocks = (stop - start + _BLOCK - 1) // _BLOCK
        learner, total = lax.fori_loop(0, blocks, block, (learner, jnp.float32(0)))
        actions, _ = roll_out(learner.greedy, all_greedy, students)
        utility = prefix_utility(actions)[-1]
        learner = _keep_best(learner, actions, utility)
        mean = total / (stop - start).astype(jnp.float32)
        return (learner, actions), LearningTrace(stop, mean, learner.best_utility, utility)

    first_feasible = jnp.broadcast_to(packed.order[:, :1], (users, users))
    learner = _Learner(
        q=jnp.where(feasible[:, None, :], jnp.zeros((1, users, 1)), -jnp.inf),
        visits=jnp.zeros((users, users, n_actions), jnp.int32),
        greedy=first_feasible,
        best_actions=jnp.zeros(users, jnp.int32),
        best_utility=jnp.asarray(-jnp.inf, jnp.float32),
    )
    stops = trace_episodes(episodes, trace_points)
    starts = np.concatenate([np.zeros(1, np.int32), stops[:-1]])
    bounds = (jnp.asarray(starts), jnp.asarray(stops))
    (learner, greedy_actions), trace = lax.scan(interval, (learner, all_greedy), bounds)
    return QLearningResult(
        q=learner.q,
        visits=learner.visits,
        greedy_actions=greedy_actions,
        greedy_utility=trace.greedy_utility[-1],
        best_actions=learner.best_actions,
        best_utility=learner.best_utility,
        trace=trace,
    )
