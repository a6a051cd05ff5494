"""Every policy's answer to one DT-KD instance.

`q_learning` is the proposed one: the better of its greedy roll-out and of the best decision it met.
`q_learning_equal_split` learns with the resources shared equally and is run that way too, which
sets the effect of the convex allocation apart. The fixed policies see each user alone
(`solo_utility`).
"""

from functools import partial
from typing import NamedTuple

import jax

from fedjax_kd.methods.dt_kd_problem import (
    DecisionProblem,
    Sharing,
    prefix_utility,
    solo_utility,
    total_utility,
)
from fedjax_kd.policy import (
    FIXED_POLICIES,
    LearningTrace,
    QLearningRates,
    QLearningResult,
    exhaustive,
    q_learning,
)

_EXPLORATION, _RANDOM_POLICY = 0, 1  # what a seed's policy key is folded with


class Decisions(NamedTuple):
    """Joint actions int32 [N] by policy, and the course of learning.

    Attributes:
        actions: policy name -> int32 [N].
        trace: of `q_learning`.
        q: float32 [N, N, A], its final table.
        visits: int32 [N, N, A], how often each entry was updated.
    """

    actions: dict[str, jax.Array]
    trace: LearningTrace
    q: jax.Array
    visits: jax.Array


def learn(
    problem: DecisionProblem,
    key: jax.Array,
    rates: QLearningRates,
    *,
    episodes: int,
    sharing: Sharing,
) -> QLearningResult:
    """Q-learning on one instance; the same key gives the same exploration whatever the instance.

    Args:
        problem: one instance of N users.
        key: typed key of the seed's policies.
        rates: traced.
        episodes: static.
        sharing: how resources are shared inside each step.

    Returns:
        The tables, the best decision seen, and the trace.
    """
    objective = partial(prefix_utility, problem, sharing=sharing)
    explore = jax.random.fold_in(key, _EXPLORATION)
    return q_learning(explore, objective, problem.feasible, rates, episodes=episodes)


def decide(
    problem: DecisionProblem,
    key: jax.Array,
    rates: QLearningRates,
    students_by_cost: jax.Array,
    *,
    episodes: int,
    sharing: Sharing,
) -> Decisions:
    """All policies but the exhaustive search, on one instance; maps over instances and keys.

    Args:
        problem: one instance of N users.
        key: typed key; every policy derives its own.
        rates: traced.
        students_by_cost: int32 [M], cheapest first.
        episodes: static.
        sharing: how resources are shared.

    Returns:
        The decisions.
    """
    learnt = learn(problem, key, rates, episodes=episodes, sharing=sharing)
    equal = learn(problem, key, rates, episodes=episodes, sharing=sharing._replace(solver="equal"))
    alone = solo_utility(problem, sharing)
    random_key = jax.random.fold_in(key, _RANDOM_POLICY)
    actions = {
        "q_learning": learnt.best_actions,
        "q_learning_equal_split": equal.best_actions,
    }
    for name, policy in FIXED_POLICIES.items():
        actions[name] = policy(random_key, alone, problem.feasible, students_by_cost)
    return Decisions(actions, learnt.trace, learnt.q, learnt.visits)


def search(problem: DecisionProblem, *, limit: int, sharing: Sharing) -> jax.Array:
    """The optimum of one instance by exhaustive search, int32 [N].

    Raises:
        ValueError: if there are more than `limit` joint decisions.
    """
    objective = partial(total_utility, problem, sharing=sharing)
    return exhaustive(objective, problem.feasible, limit=limit).actions
