"""The joint problem of DT-KD: who trains which student where, and what that is worth.

    max over decisions   U = (1/N) sum_n A[n, action_n]  -  lambda * T / T_ref

with T the total delay (or the makespan) under the best allocation of server compute and bandwidth
for that decision, and T_ref its mean over random decisions, a constant of the instance.

Reference: Wang et al. 2023, arXiv:2303.06155 for the structure: a mixed-integer problem whose
discrete part is learnt and whose resources are then allocated by convex optimisation. The form of U
is our reconstruction.
"""

from dataclasses import replace
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from fedjax_kd.allocation import AllocationSolution, problem_for, solve
from fedjax_kd.system import Fleet, Shares, Workload, price

Delay = Literal["sum", "makespan"]
Solver = Literal["projected_gradient", "closed_form", "equal"]


class Sharing(NamedTuple):
    """How resources are shared, given a decision; static.

    Attributes:
        solver: method of `fedjax_kd.allocation.solve`.
        delay: what the allocation minimises and the utility charges.
    """

    solver: Solver = "projected_gradient"
    delay: Delay = "sum"


@struct.dataclass
class DecisionProblem:
    """One instance: N users with A = 2M joint actions each (see `fedjax_kd.policy.actions`).

    Attributes:
        accuracy: float32 [N, A], what each action is expected to reach.
        workload: arrays [N, A], what each action has to compute and to send.
        fleet: devices, links and budgets of the N users.
        feasible: bool [N, A].
        delay_weight: lambda, float32 scalar.
        reference_delay_s: T_ref, float32 scalar.
    """

    accuracy: jax.Array
    workload: Workload
    fleet: Fleet
    feasible: jax.Array
    delay_weight: jax.Array
    reference_delay_s: jax.Array

    @property
    def n_users(self) -> int:
        """N."""
        return self.accuracy.shape[0]


def chosen(tree, actions: jax.Array):
    """The entries [N] that N actions pick from arrays [N, A]."""
    users = jnp.arange(actions.shape[0])
    return jax.tree.map(lambda leaf: leaf[users, actions], tree)


def allocate(
    problem: DecisionProblem,
    actions: jax.Array,
    decided: jax.Array,
    sharing: Sharing,
) -> AllocationSolution:
    """Shares the resources among the users that are decided; the others have no load.

    Args:
        problem: one instance.
        actions: int32 [N].
        decided: bool [N].
        sharing: how.

    Returns:
        The solution over N users.
    """
    instance = problem_for(chosen(problem.workload, actions), problem.fleet, decided)
    return solve(instance, method=sharing.solver, objective=sharing.delay)


def utility(problem: DecisionProblem, accuracy: jax.Array, delay_s: jax.Array) -> jax.Array:
    """U of users that reach `accuracy` [N] (0 for the undecided) in `delay_s` (scalar)."""
    return jnp.mean(accuracy) - problem.delay_weight * delay_s / problem.reference_delay_s


def prefix_utility(problem: DecisionProblem, actions: jax.Array, sharing: Sharing) -> jax.Array:
    """U after the first n users are decided, n = 0..N: one batch of N allocation problems.

    Args:
        problem: one instance.
        actions: int32 [N].
        sharing: how resources are shared.

    Returns:
        float32 [N + 1]; the first entry is 0.
    """
    n_users = problem.n_users
    decided = jnp.tril(jnp.ones((n_users, n_users), bool))
    solutions = jax.vmap(lambda some: allocate(problem, actions, some, sharing))(decided)
    gains = jnp.cumsum(chosen(problem.accuracy, actions)) / n_users
    weight = problem.delay_weight / problem.reference_delay_s
    return jnp.concatenate([jnp.zeros(1), gains - weight * solutions.total_s])


def total_utility(problem: DecisionProblem, actions: jax.Array, sharing: Sharing) -> jax.Array:
    """U of a complete decision int32 [N], as the instance expects it."""
    everybody = jnp.ones(problem.n_users, bool)
    solution = allocate(problem, actions, everybody, sharing)
    return utility(problem, chosen(problem.accuracy, actions), solution.total_s)


def solo_utility(problem: DecisionProblem, sharing: Sharing) -> jax.Array:
    """What each action is worth to a user who takes an equal share of everything: float32 [N, A].

    The view of a user who knows nothing of the others: 1/N of the server and of both bands is its
    own, whatever the others do. What it adds to U is its share of the mean accuracy less its delay;
    of a makespan, which it alone does not make, it counts a share too.
    """
    n_users = problem.n_users
    fleet = problem.fleet
    shares = Shares(
        *(
            jnp.broadcast_to(budget / n_users, (n_users,))
            for budget in (fleet.server_flops_per_s, fleet.uplink_hz, fleet.downlink_hz)
        )
    )
    by_cause = jax.vmap(lambda work: price(work, fleet, shares).delay_s, in_axes=1, out_axes=1)
    delay_s = jnp.sum(by_cause(problem.workload), axis=-1)
    weight = problem.delay_weight / problem.reference_delay_s
    if sharing.delay == "makespan":
        weight = weight / n_users
    return problem.accuracy / n_users - weight * delay_s


def with_reference_delay(
    problem: DecisionProblem, key: jax.Array, *, draws: int, sharing: Sharing
) -> DecisionProblem:
    """Sets T_ref: the mean delay of `draws` random feasible decisions, drawn once per instance.

    Args:
        problem: one instance.
        key: typed key.
        draws: static.
        sharing: how resources are shared.

    Returns:
        The instance with its `reference_delay_s`.
    """
    everybody = jnp.ones(problem.n_users, bool)
    options = jnp.log(problem.feasible.astype(jnp.float32))

    def one_draw(key):
        actions = jax.random.categorical(key, options, axis=-1).astype(jnp.int32)
        return allocate(problem, actions, everybody, sharing).total_s

    keys = jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(draws))
    return replace(problem, reference_delay_s=jnp.mean(jax.vmap(one_draw)(keys)))
