import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from allocation_instances import (
    delays_float64,
    instance,
    optimum_cvxpy,
    random_batch,
    resources,
    shares_of,
    solve_batch,
    solve_one,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from fedjax_kd.allocation import (
    METHODS,
    OBJECTIVES,
    AllocationProblem,
    Status,
    solve,
)

BATCH = random_batch(200, seed=2, most_users=10)


def _five(*values) -> AllocationProblem:
    """A problem of five users, the missing ones idle: one shape, so one compilation for all."""
    padded = [np.pad(v, (0, 5 - len(v))) if np.ndim(v) else v for v in values]
    return AllocationProblem(*(jnp.asarray(v, jnp.float32) for v in padded))


def test_one_user_by_hand():
    # 6 FLOPs at 3 FLOP/s; 8 bits at b = 4, c = 12: 4 log2(4) = 8 bit/s; 10 bits at b = 5 = c.
    problem = _five([6], [8], [10], [12], [5], 3, 4, 5, [0.5])
    for method in METHODS:
        for objective in OBJECTIVES:
            solution = solve_one(problem, method=method, objective=objective)
            np.testing.assert_allclose(solution.compute_s[0], 2.0, rtol=1e-6)
            np.testing.assert_allclose(solution.uplink_s[0], 1.0, rtol=1e-6)
            np.testing.assert_allclose(solution.downlink_s[0], 2.0, rtol=1e-6)
            np.testing.assert_allclose(solution.total_s, 5.5, rtol=1e-6)
            np.testing.assert_allclose(solution.uplink_hz, [4.0, 0, 0, 0, 0], rtol=1e-6)


def test_agrees_with_an_interior_point_solver():
    tame = random_batch(10, seed=21, most_users=6, decades=1.5)
    for i in range(10):
        problem = instance(tame, i)
        ours = solve_one(problem)
        np.testing.assert_allclose(ours.total_s, optimum_cvxpy(problem, "sum"), rtol=1e-5)


def test_optimum_is_never_worse_than_the_equal_split():
    best, equal = solve_batch(BATCH, "closed_form"), solve_batch(BATCH, "equal")
    assert (best.total_s <= equal.total_s * (1 + 1e-6)).all()
    assert (best.total_s < equal.total_s * 0.9).any()
    floor = equal.total_s * (1 - equal.residual)
    np.testing.assert_allclose(floor, best.total_s, rtol=3e-6)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_delays_follow_from_the_shares(method, objective):
    solution = solve_batch(BATCH, method, objective)
    exact = delays_float64(BATCH, shares_of(solution))
    np.testing.assert_allclose(solution.delay_s, exact, rtol=2e-6)
    total = exact.sum(axis=1) if objective == "sum" else exact.max(axis=1)
    np.testing.assert_allclose(solution.total_s, total, rtol=2e-6)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_identical_users_get_identical_shares(method, objective):
    problem = _five(
        [7e9] * 5, [3e7] * 5, [2e6] * 5, [1e11] * 5, [1e12] * 5, 3e10, 1e7, 2e7, [0.0] * 5
    )
    for share in shares_of(solve_one(problem, method=method, objective=objective)):
        assert len(set(np.asarray(share).tolist())) == 1
        np.testing.assert_allclose(share[0] * 5, np.sum(share), rtol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_doubling_the_server_halves_its_time(method):
    single = solve_batch(BATCH, method)
    double = solve_batch(BATCH._replace(server_flops_per_s=2 * BATCH.server_flops_per_s), method)
    np.testing.assert_allclose(double.compute_s * 2, single.compute_s, rtol=1e-6)
    np.testing.assert_allclose(double.uplink_s, single.uplink_s, rtol=1e-6)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("budget", ["server_flops_per_s", "uplink_hz", "downlink_hz"])
def test_more_of_any_budget_never_hurts(budget, objective):
    less = solve_batch(BATCH, "projected_gradient", objective)
    richer = BATCH._replace(**{budget: 1.5 * getattr(BATCH, budget)})
    more = solve_batch(richer, "projected_gradient", objective)
    assert (more.total_s <= less.total_s * (1 + 5e-6)).all()
    assert (more.total_s < less.total_s * 0.999).any()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31 - 1), i=st.integers(0, 199), objective=st.sampled_from(OBJECTIVES))
def test_no_feasible_allocation_beats_it(seed, i, objective):
    problem = instance(BATCH, i)
    rng = np.random.default_rng(seed)
    shares = []
    for load, _, budget in resources(problem):
        weights = np.where(load > 0, rng.exponential(size=load.shape) + 1e-6, 0.0)
        shares.append(budget * weights / max(weights.sum(), 1e-30))
    delays = delays_float64(problem, shares)
    theirs = delays.sum() if objective == "sum" else delays.max()
    assert solve_one(problem, objective=objective).total_s <= theirs * (1 + 3e-6)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_nothing_to_do_costs_nothing(method, objective):
    zeros = [0.0] * 5
    problem = _five(zeros, zeros, zeros, zeros, zeros, 1, 1, 1, zeros)
    solution = solve_one(problem, method=method, objective=objective)
    for leaf in solution[:8]:
        np.testing.assert_array_equal(leaf, jnp.zeros_like(leaf))
    assert solution.status == Status.CONVERGED


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_padding_with_idle_users_changes_nothing(objective):
    problem = instance(BATCH, 3)
    padded = AllocationProblem(
        *(jnp.pad(leaf, (0, 5)) if leaf.ndim else leaf for leaf in jax.tree.leaves(problem))
    )
    small, large = solve_one(problem, objective=objective), solve_one(padded, objective=objective)
    for a, b in zip(shares_of(small), shares_of(large), strict=True):
        np.testing.assert_allclose(a, b[:10], rtol=3e-6)
        np.testing.assert_array_equal(b[10:], 0.0)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_row_of_a_batch_is_the_single_solve(objective):
    rows = solve_batch(BATCH, "projected_gradient", objective)
    for i in (0, 17):
        single = solve_one(instance(BATCH, i), objective=objective)
        chex.assert_trees_all_close(
            jax.tree.map(lambda leaf, i=i: leaf[i], rows), single, rtol=5e-5, atol=1e-5
        )


def test_compiles_once():
    @jax.jit
    @chex.assert_max_traces(n=1)
    def total(problem):
        return solve(problem).total_s

    assert total(instance(BATCH, 0)) != total(instance(BATCH, 1))


def _small(**changes):
    values = dict(
        compute_flops=[1.0, 2.0], uplink_bits=[1.0, 2.0], downlink_bits=[1.0, 2.0],
        uplink_snr_hz=[5.0, 5.0], downlink_snr_hz=[5.0, 5.0],
        server_flops_per_s=1.0, uplink_hz=1.0, downlink_hz=1.0, fixed_s=[0.0, 1.0],
    )  # fmt: skip
    values |= changes
    return _five(*(values[name] for name in AllocationProblem._fields))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize(
    "changes", [{"uplink_hz": 0.0}, {"server_flops_per_s": 0.0}, {"downlink_snr_hz": [0.0, 5.0]}]
)
def test_impossible_demands_are_reported_as_such(method, objective, changes):
    solution = solve_one(_small(**changes), method=method, objective=objective)
    assert solution.status == Status.INFEASIBLE
    assert np.isposinf(solution.total_s)
    assert not any(np.isnan(leaf).any() for leaf in solution)


@pytest.mark.parametrize("changes", [{"uplink_bits": [np.nan, 1.0]}, {"uplink_hz": -1.0}])
def test_nonsense_is_reported_as_such(changes):
    assert solve_one(_small(**changes)).status == Status.INVALID


def test_too_few_iterations_and_an_equal_split_are_not_called_converged():
    problem = _small(uplink_snr_hz=[1e-2, 1e8])
    assert solve_one(problem, iterations=1, tolerance=1e-9).status == Status.ITERATION_LIMIT
    assert solve_one(problem, method="equal").status == Status.NOT_OPTIMISED


def test_unknown_options_are_named():
    with pytest.raises(ValueError, match="method = 'newton'; must be one of projected_gradient"):
        solve(_small(), "newton")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="objective = 'mean'; must be one of sum, makespan"):
        solve(_small(), objective="mean")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="iterations = 0"):
        solve(_small(), iterations=0)
