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

from fedjax_kd.allocation import METHODS, AllocationProblem, Status


def _compute_only(flops, fixed_s, budget):
    zeros, ones = jnp.zeros(len(flops)), jnp.ones(len(flops))
    one = jnp.float32(1)
    flops, fixed_s = jnp.asarray(flops, jnp.float32), jnp.asarray(fixed_s, jnp.float32)
    return AllocationProblem(
        flops, zeros, zeros, ones, ones, jnp.float32(budget), one, one, fixed_s
    )


def test_compute_alone_by_hand():
    # 2 / t + 1 / (t - 1) = 2 has the root t = 2: one FLOP/s each.
    solution = solve_one(_compute_only([2.0, 1.0], [0.0, 1.0], 2.0), objective="makespan")
    np.testing.assert_allclose(solution.total_s, 2.0, rtol=1e-6)
    np.testing.assert_allclose(solution.server_flops_per_s, [1.0, 1.0], rtol=2e-6)
    assert solution.status == Status.CONVERGED


def test_a_fixed_delay_without_a_load_can_be_the_last():
    solution = solve_one(_compute_only([2.0, 0.0], [0.0, 9.0], 2.0), objective="makespan")
    np.testing.assert_allclose(solution.delay_s, [1.0, 9.0], rtol=1e-6)
    assert solution.total_s == 9.0
    assert solution.residual == 0.0


def test_resources_that_no_user_combines_are_both_used_up():
    # User 0 only computes, user 1 only sends: each has its whole budget, nothing is traded off.
    problem = AllocationProblem(
        *(jnp.asarray(x, jnp.float32) for x in ([8.0, 0], [0, 1.0], [0, 0], [1, 1], [1, 1])),
        *(jnp.float32(x) for x in (2.0, 1.0, 1.0)),
    )
    solution = solve_one(problem, objective="makespan")
    np.testing.assert_allclose(solution.server_flops_per_s, [2.0, 0.0], rtol=1e-6)
    np.testing.assert_allclose(solution.uplink_hz, [0.0, 1.0], rtol=1e-6)
    np.testing.assert_allclose(solution.delay_s, [4.0, 1.0], rtol=1e-6)


@pytest.fixture(scope="module")
def solved():
    batch = random_batch(500, seed=11)
    return batch, *(solve_batch(batch, method, "makespan") for method in METHODS)


def test_random_instances_are_certified_near_the_optimum(solved):
    batch, ours, oracle, equal = solved
    value = delays_float64(batch, shares_of(ours)).max(axis=1)
    best = delays_float64(batch, shares_of(oracle)).max(axis=1)
    assert np.all(np.abs(value - best) <= 1e-5 * best)
    for solution in (ours, oracle):
        assert all(np.isfinite(leaf).all() for leaf in solution)
        np.testing.assert_array_equal(solution.status, Status.CONVERGED)
    assert (ours.total_s <= equal.total_s * (1 + 1e-6)).all()
    # What the equal split's residual promises is what the optimum delivers.
    np.testing.assert_allclose(equal.total_s * (1 - equal.residual), best, rtol=2e-5, atol=1e-5)


def test_random_instances_keep_their_budgets(solved):
    batch, ours, _, _ = solved
    for (load, _, budget), share in zip(resources(batch), shares_of(ours), strict=True):
        share = np.asarray(share, np.float64)
        np.testing.assert_allclose(share.sum(axis=1), budget * (load > 0).any(axis=1), rtol=1e-6)
        np.testing.assert_array_equal(share[load == 0], 0.0)


def test_users_whose_resources_are_coupled_finish_at_the_same_time(solved):
    batch, ours, _, _ = solved
    idle_s = np.asarray(batch.fixed_s).max(axis=1)
    loaded = np.array([load > 0 for load, _, _ in resources(batch)])
    coupled = np.any(np.all(loaded, axis=0), axis=1)
    busy = np.any(loaded, axis=0) & coupled[:, None]
    decisive = busy & (np.asarray(ours.total_s) > idle_s * 1.01)[:, None]
    assert decisive.any(axis=1).sum() > 100
    makespan_s = np.broadcast_to(np.asarray(ours.total_s)[:, None], busy.shape)
    np.testing.assert_allclose(np.asarray(ours.delay_s)[decisive], makespan_s[decisive], rtol=1e-4)


def test_agrees_with_an_interior_point_solver():
    batch = random_batch(6, seed=21, most_users=6, decades=1.5)
    for i in range(6):
        problem = instance(batch, i)
        ours = solve_one(problem, objective="makespan")
        np.testing.assert_allclose(ours.total_s, optimum_cvxpy(problem, "makespan"), rtol=2e-5)
