"""From accuracy tables to decisions, and from decisions to what they cost.

Everything here is one compiled program per question, mapped over the study's seeds.
"""

from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_kd.allocation import AllocationSolution, problem_for, solve
from fedjax_kd.clients import Part, Purpose, draw_key, part_key
from fedjax_kd.methods.contract import RoundReport
from fedjax_kd.methods.dt_kd_decide import Decisions, decide, learn, search
from fedjax_kd.methods.dt_kd_problem import (
    DecisionProblem,
    Sharing,
    chosen,
    solo_utility,
    total_utility,
    utility,
    with_reference_delay,
)
from fedjax_kd.policy import QLearningRates, count_decisions, greedy
from fedjax_kd.study.dt_kd_setup import Setup
from fedjax_kd.study.points import stacked
from fedjax_kd.study.settings import DtKdStudy
from fedjax_kd.system import Fleet, Ledger, Workload, price, workload

EQUAL_SPLIT = "q_learning_equal_split"


class Priced(NamedTuple):
    """What a decision costs, stacked over seeds.

    Attributes:
        solution: shares and delays [S, N].
        ledger: [S, N, causes].
        delay_s: the objective's delay [S]: sum over users, or makespan.
    """

    solution: AllocationSolution
    ledger: Ledger
    delay_s: jax.Array


def workloads(settings: DtKdStudy, setup: Setup, *, distilled: bool) -> Workload:
    """What every joint action asks of every user: arrays [S, N, A].

    Args:
        settings: the study.
        setup: its profiles and users.
        distilled: whether a teacher labels the examples.

    Returns:
        The workload of action student + M * place.
    """
    n_students = len(setup.students)
    shape = (setup.points.count, settings.data.users, 1)
    samples = setup.federation.people.train.counts.reshape(shape)
    synchronised = setup.synchronised.reshape(shape)
    at_server = jnp.repeat(jnp.array([False, True]), n_students).reshape(1, 1, -1)

    def by_student(costs: list[int]) -> jax.Array:
        return jnp.tile(jnp.asarray(costs, jnp.float32), 2).reshape(1, 1, -1)

    on_device, at_the_server = (count.reshape(shape) for count in labelled_at(settings, setup))
    labelled = jnp.where(at_server, at_the_server, on_device) * int(distilled)
    return workload(
        training_flops_per_example=by_student([p.training_flops for p in setup.profiles]),
        student_bits=by_student([p.bits for p in setup.profiles]),
        teacher_flops_per_example=float(setup.teacher_profile.forward_flops),
        raw_bits_per_example=setup.source.raw_bits_per_example,
        n_classes=setup.source.n_classes,
        epochs=settings.distillation.training.epochs,
        samples=samples,
        synchronised=synchronised,
        labelled=labelled,
        at_server=at_server,
        teacher_inference=settings.system.teacher_inference,
    )


def labelled_at(settings: DtKdStudy, setup: Setup) -> tuple[jax.Array, jax.Array]:
    """How many examples int32 [K] have a soft label on the device and at the server.

    At the server that is all of them, for a user who trains there has uploaded the rest. A device
    gets labels for what the twin holds, or for everything if the settings make that free.
    """
    everything = setup.federation.people.train.counts
    free = settings.twin.unsynchronised_labels == "free"
    return everything if free else setup.synchronised, everything


def fedavg_workload(setup: Setup, did: RoundReport) -> Workload:
    """The FedAvg baseline's work and traffic [S, N], as its rounds reported them [K]."""
    shape = (setup.points.count, setup.federation.people.n_users)
    return Workload(
        training_flops=did.work_flops.reshape(shape),
        teacher_flops=jnp.zeros(shape),
        uplink_bits=did.uplink_bits.reshape(shape),
        downlink_bits=did.downlink_bits.reshape(shape),
        at_server=jnp.zeros(shape, bool),
    )


def decision_problems(settings: DtKdStudy, setup: Setup, accuracy: np.ndarray) -> DecisionProblem:
    """One instance per seed, with its reference delay, from an accuracy table [S, N, A]."""
    work = workloads(settings, setup, distilled=True)
    instances = DecisionProblem(
        accuracy=jnp.asarray(accuracy, jnp.float32),
        workload=work,
        fleet=setup.fleets,
        feasible=jnp.ones(accuracy.shape, bool),
        delay_weight=jnp.asarray(
            [point.objective.delay_weight for point in setup.points.settings], jnp.float32
        ),
        reference_delay_s=jnp.ones(setup.points.count, jnp.float32),
    )
    set_reference = partial(
        with_reference_delay,
        draws=settings.objective.reference_draws,
        sharing=sharing_of(settings),
    )
    return jax.jit(jax.vmap(set_reference))(instances, _keys(setup, Purpose.REFERENCE))


def all_decisions(settings: DtKdStudy, setup: Setup, problems: DecisionProblem) -> Decisions:
    """Every policy's decision for every seed: actions int32 [S, N] by name."""
    policy = settings.policy
    by_cost = np.argsort([p.training_flops for p in setup.profiles], kind="stable")
    run = partial(
        decide,
        students_by_cost=jnp.asarray(by_cost, jnp.int32),
        episodes=policy.episodes,
        sharing=sharing_of(settings),
    )
    rates, axes = q_rates(setup)
    decided = jax.jit(jax.vmap(run, in_axes=(0, 0, axes)))
    decisions = decided(problems, _keys(setup, Purpose.POLICY), rates)
    actions = dict(decisions.actions)
    one = jax.tree.map(lambda leaf: leaf[0], problems)
    if count_decisions(one.feasible) <= policy.exhaustive_limit:
        find = partial(
            search,
            limit=policy.exhaustive_limit,
            sharing=sharing_of(settings),
        )
        # Seed by seed: a batch of all seeds would only need more memory.
        per_seed = [
            jax.jit(find)(jax.tree.map(lambda leaf, s=s: leaf[s], problems))
            for s in range(setup.points.count)
        ]
        actions["exhaustive"] = jnp.stack(per_seed)
    return decisions._replace(actions=actions)


def frontier_decisions(
    settings: DtKdStudy, setup: Setup, problems: DecisionProblem, delay_weights: np.ndarray
) -> dict[str, jax.Array]:
    """Decisions int32 [L, S, N] of Q-learning and of the greedy policy for L delay weights."""

    def at_weight(problem, key, rates, weight):
        weighted = replace(problem, delay_weight=weight)
        best = learn(
            weighted,
            key,
            rates,
            episodes=settings.policy.frontier_episodes,
            sharing=sharing_of(settings),
        ).best_actions
        alone = greedy(solo_utility(weighted, sharing_of(settings)), weighted.feasible)
        return {"q_learning": best, "greedy": alone}

    rates, axes = q_rates(setup)
    over_points = jax.vmap(at_weight, in_axes=(0, 0, axes, None))
    over_weights = jax.vmap(over_points, in_axes=(None, None, None, 0))
    keys = _keys(setup, Purpose.POLICY)
    return jax.jit(over_weights)(problems, keys, rates, jnp.asarray(delay_weights, jnp.float32))


def price_workload(
    settings: DtKdStudy, fleets: Fleet, work: Workload, *, equal_split: bool = False
) -> Priced:
    """Allocates the resources for workloads [S, N] and prices them."""
    sharing = sharing_of(settings)
    if equal_split:
        sharing = sharing._replace(solver="equal")
    return _price(work, fleets, sharing)


@partial(jax.jit, static_argnames="sharing")
def _price(work: Workload, fleets: Fleet, sharing: Sharing) -> Priced:
    def one_seed(work, fleet):
        solution = solve(problem_for(work, fleet), method=sharing.solver, objective=sharing.delay)
        return Priced(solution, price(work, fleet, solution), solution.total_s)

    return jax.vmap(one_seed)(work, fleets)


def chosen_workload(work: Workload, actions: jax.Array) -> Workload:
    """The entries [S, N] that actions int32 [S, N] pick from workloads [S, N, A]."""
    return jax.vmap(chosen)(work, actions)


def utilities(problems: DecisionProblem, accuracy: np.ndarray, delay_s: jax.Array) -> np.ndarray:
    """U [S] of users that reach accuracy [S, N] in delay [S]."""
    return np.asarray(jax.vmap(utility)(problems, jnp.asarray(accuracy, jnp.float32), delay_s))


def planned_utilities(
    settings: DtKdStudy, problems: DecisionProblem, actions: jax.Array
) -> np.ndarray:
    """U [S] of decisions int32 [S, N] by the accuracy table they were made from."""
    objective = partial(
        total_utility,
        sharing=sharing_of(settings),
    )
    return np.asarray(jax.jit(jax.vmap(objective))(problems, actions))


def sharing_of(settings: DtKdStudy) -> Sharing:
    """How the study shares its resources."""
    return Sharing(solver=settings.allocation.method, delay=settings.objective.delay)


def q_rates(setup: Setup) -> tuple[QLearningRates, QLearningRates]:
    """The traced rates of Q-learning, scalars or [S], and the axes by which points map them."""
    policies = [point.policy for point in setup.points.settings]
    rates = stacked(
        [
            QLearningRates(
                learning_rate=jnp.float32(policy.learning_rate),
                discount=jnp.float32(policy.discount),
                epsilon_start=jnp.float32(policy.epsilon_start),
                epsilon_end=jnp.float32(policy.epsilon_end),
                epsilon_decay=jnp.float32(policy.epsilon_decay),
            )
            for policy in policies
        ]
    )
    return rates, jax.tree.map(lambda leaf: 0 if leaf.ndim else None, rates)


def _keys(setup: Setup, purpose: Purpose) -> jax.Array:
    return jnp.stack(
        [draw_key(part_key(seed, Part.DECISION), 0, purpose) for seed in setup.points.seeds]
    )
