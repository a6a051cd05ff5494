"""Laws of the joint problem, with the real allocation behind it."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_kd.methods.dt_kd_decide import decide, learn, search
from fedjax_kd.methods.dt_kd_problem import (
    Sharing,
    allocate,
    chosen,
    prefix_utility,
    solo_utility,
    total_utility,
)
from fedjax_kd.policy import QLearningRates
from fedjax_kd.system import price

SOLVED = Sharing()


@pytest.fixture(scope="module")
def problem(make_problem):
    return make_problem(jax.random.key(3))


def random_actions(seed, n_users=5, n_actions=6):
    return jax.random.randint(jax.random.key(seed), (n_users,), 0, n_actions, jnp.int32)


def rate_by_numpy(bandwidth_hz, snr_hz):
    return bandwidth_hz * np.log2(1 + snr_hz / bandwidth_hz)


def delay_by_numpy(problem, actions, solution):
    """The delay table of the reconstruction, user by user, in float64."""
    work = jax.tree.map(np.asarray, chosen(problem.workload, actions))
    fleet = jax.tree.map(np.asarray, problem.fleet)
    total = 0.0
    for n in range(problem.n_users):
        total += float(work.teacher_flops[n]) / float(fleet.server_flops_per_s)
        if work.at_server[n]:
            total += float(work.training_flops[n]) / float(solution.server_flops_per_s[n])
        else:
            total += float(work.training_flops[n]) / float(fleet.device_flops_per_s[n])
        for bits, share, snr in (
            (work.uplink_bits[n], solution.uplink_hz[n], fleet.uplink_snr_hz[n]),
            (work.downlink_bits[n], solution.downlink_hz[n], fleet.downlink_snr_hz[n]),
        ):
            if bits > 0:
                total += float(bits) / rate_by_numpy(float(share), float(snr))
    return total


@pytest.mark.parametrize("seed", range(3))
def test_utility_equals_a_numpy_computation(problem, seed):
    actions = random_actions(seed)
    solution = allocate(problem, actions, jnp.ones(5, bool), SOLVED)
    delay_s = delay_by_numpy(problem, actions, solution)
    accuracy = np.asarray(problem.accuracy)[np.arange(5), np.asarray(actions)].mean()
    want = accuracy - float(problem.delay_weight) * delay_s / float(problem.reference_delay_s)
    np.testing.assert_allclose(total_utility(problem, actions, SOLVED), want, rtol=2e-5)


@pytest.mark.parametrize("delay", ["sum", "makespan"])
def test_prefixes_end_at_the_whole_decision(problem, delay):
    for seed in range(4):
        actions = random_actions(seed)
        objective = Sharing(delay=delay)
        prefixes = prefix_utility(problem, actions, objective)
        assert float(prefixes[0]) == 0.0
        for n in (1, 3):
            decided = jnp.arange(5) < n
            delay_s = allocate(problem, actions, decided, objective).total_s
            accuracy = float(jnp.sum(jnp.where(decided, chosen(problem.accuracy, actions), 0.0)))
            price = float(problem.delay_weight * delay_s / problem.reference_delay_s)
            np.testing.assert_allclose(prefixes[n], accuracy / 5 - price, rtol=1e-3, atol=1e-5)
        whole = total_utility(problem, actions, objective)
        np.testing.assert_allclose(prefixes[-1], whole, rtol=1e-4, atol=1e-5)


def test_the_ledger_adds_up_to_the_delay_of_the_objective(problem):
    actions = random_actions(7)
    solution = allocate(problem, actions, jnp.ones(5, bool), SOLVED)
    ledger = price(chosen(problem.workload, actions), problem.fleet, solution)
    np.testing.assert_allclose(ledger.delay_s.sum(), solution.total_s, rtol=1e-5)


def test_the_allocation_beats_an_equal_split_and_random_shares(problem):
    equal = Sharing(solver="equal")
    for seed in range(5):
        actions = random_actions(seed)
        best = float(total_utility(problem, actions, SOLVED))
        assert best >= float(total_utility(problem, actions, equal)) - 1e-6
        for draw in range(10):
            keys = [jax.random.fold_in(jax.random.key(draw), index) for index in range(3)]
            shares = [jax.random.dirichlet(key, jnp.ones(5)) for key in keys]
            random = allocate(problem, actions, jnp.ones(5, bool), equal)._replace(
                server_flops_per_s=shares[0] * problem.fleet.server_flops_per_s,
                uplink_hz=shares[1] * problem.fleet.uplink_hz,
                downlink_hz=shares[2] * problem.fleet.downlink_hz,
            )
            accuracy = float(jnp.mean(chosen(problem.accuracy, actions)))
            price_s = float(problem.delay_weight / problem.reference_delay_s)
            assert best >= accuracy - price_s * delay_by_numpy(problem, actions, random) - 1e-5


def test_without_a_price_on_delay_everybody_takes_its_most_accurate_student(problem):
    free = replace(problem, delay_weight=jnp.float32(0))
    best = search(free, limit=10_000, sharing=SOLVED)
    reached = chosen(problem.accuracy, best)
    np.testing.assert_allclose(reached, problem.accuracy.max(axis=1), rtol=1e-6)


def test_when_only_delay_counts_the_fastest_decision_wins(problem):
    dear = replace(problem, delay_weight=jnp.float32(1e6))
    best = search(dear, limit=10_000, sharing=SOLVED)
    delays = jax.jit(jax.vmap(lambda a: allocate(problem, a, jnp.ones(5, bool), SOLVED).total_s))
    everything = jnp.asarray(np.indices((6,) * 5).reshape(5, -1).T, jnp.int32)
    fastest = float(delays(everything).min())
    np.testing.assert_allclose(delays(best[None])[0], fastest, rtol=1e-5)


def test_solo_utility_is_that_of_an_equal_share(problem):
    alone = solo_utility(problem, SOLVED)
    assert alone.shape == (5, 6)
    fleet, n, action = problem.fleet, 2, 4
    work = jax.tree.map(lambda leaf: float(leaf[n, action]), problem.workload)
    delay_s = work.teacher_flops / float(fleet.server_flops_per_s) + work.training_flops / (
        float(fleet.server_flops_per_s) / 5
    )
    up, down = float(fleet.uplink_snr_hz[n]), float(fleet.downlink_snr_hz[n])
    delay_s += work.uplink_bits / rate_by_numpy(float(fleet.uplink_hz) / 5, up)
    delay_s += work.downlink_bits / rate_by_numpy(float(fleet.downlink_hz) / 5, down)
    price_s = float(problem.delay_weight / problem.reference_delay_s)
    want = float(problem.accuracy[n, action]) / 5 - price_s * delay_s
    assert float(alone[n, action]) == pytest.approx(want, rel=1e-4)


def test_under_a_makespan_a_user_reckons_with_its_share_of_the_delay(problem):
    one = solo_utility(problem, SOLVED)
    other = solo_utility(problem, Sharing(delay="makespan"))
    gain = problem.accuracy / 5
    np.testing.assert_allclose(gain - other, (gain - one) / 5, rtol=1e-4, atol=1e-7)


def test_decisions_map_over_seeds_and_name_every_policy(make_problem):
    problems = [make_problem(jax.random.key(seed)) for seed in range(2)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *problems)
    keys = jnp.stack([jax.random.key(seed) for seed in range(2)])
    run = partial(
        decide,
        rates=QLearningRates(),
        students_by_cost=jnp.arange(3, dtype=jnp.int32),
        episodes=300,
        sharing=SOLVED,
    )
    batched = jax.jit(jax.vmap(run))(stacked, keys)
    assert set(batched.actions) == {
        "q_learning",
        "q_learning_equal_split",
        "greedy",
        "all_device",
        "all_server",
        "random",
        "smallest",
        "largest",
    }
    single = jax.jit(run)(problems[1], keys[1])
    for name, actions in batched.actions.items():
        assert actions[1].tolist() == single.actions[name].tolist(), name
    assert (np.asarray(batched.actions["all_server"]) >= 3).all()
    assert (np.asarray(batched.actions["all_device"]) < 3).all()
    assert set(np.asarray(batched.actions["largest"]).ravel() % 3) == {2}


@pytest.mark.slow
def test_q_learning_is_within_one_per_cent_of_the_optimum(make_problem):
    """N = 5, M = 3: 20 instances x 3 seeds of 20,000 episodes against all 7,776 decisions."""
    n_instances, n_seeds = 20, 3
    problems = [make_problem(jax.random.key(100 + index)) for index in range(n_instances)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *problems)
    optimum = jax.lax.map(
        lambda p: total_utility(p, search(p, limit=10_000, sharing=SOLVED), SOLVED), stacked
    )

    def run(problem, key):
        learnt = learn(problem, key, QLearningRates(), episodes=20_000, sharing=SOLVED)
        best = total_utility(problem, learnt.best_actions, SOLVED)
        return best, learnt.trace.greedy_utility[-1]

    keys = jnp.stack([jax.random.key(seed) for seed in range(n_seeds)])
    over_seeds = jax.vmap(run, in_axes=(None, 0))
    best, greedy = jax.jit(jax.vmap(over_seeds, in_axes=(0, None)))(stacked, keys)
    gap_best = np.asarray(optimum)[:, None] - np.asarray(best)
    gap_greedy = np.asarray(optimum)[:, None] - np.asarray(greedy)
    print(
        f"best seen: worst relative gap {(gap_best / np.asarray(optimum)[:, None]).max():.5f}, "
        f"exact {np.mean(gap_best < 1e-6):.2f}; greedy: mean gap {gap_greedy.mean():.5f}"
    )
    assert (gap_best <= 0.01 * np.abs(np.asarray(optimum))[:, None]).all()
    assert gap_greedy.mean() <= 0.005
