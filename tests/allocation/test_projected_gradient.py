import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from allocation_instances import (
    delays_float64,
    random_batch,
    resources,
    shares_of,
    solve_batch,
)

from fedjax_kd.allocation import Status
from fedjax_kd.allocation.projected_gradient import DEFAULT_ITERATIONS, gradient_shares
from fedjax_kd.allocation.shannon import normalise


@pytest.fixture(scope="module")
def solved():
    batch = random_batch(2000, seed=0)
    return batch, solve_batch(batch), solve_batch(batch, "closed_form")


def test_two_thousand_instances_reach_the_optimum(solved):
    batch, ours, oracle = solved
    value = delays_float64(batch, shares_of(ours)).sum(axis=1)
    best = delays_float64(batch, shares_of(oracle)).sum(axis=1)
    gap = (value - best) / np.where(best > 0, best, 1.0)
    assert gap.max() <= 1e-6
    assert gap.min() >= -1e-6
    np.testing.assert_array_equal(value[best == 0], 0.0)
    np.testing.assert_allclose(ours.total_s, value, rtol=1e-6)


def test_two_thousand_instances_keep_their_budgets(solved):
    batch, ours, _ = solved
    for (load, _, budget), share in zip(resources(batch), shares_of(ours), strict=True):
        share = np.asarray(share, np.float64)
        np.testing.assert_allclose(share.sum(axis=1), budget * (load > 0).any(axis=1), rtol=1e-6)
        np.testing.assert_array_equal(share[load == 0], 0.0)
        assert (share[load > 0] > 0).all()


def test_two_thousand_instances_are_certified_and_free_of_nan(solved):
    _, ours, oracle = solved
    for solution in (ours, oracle):
        assert all(np.isfinite(leaf).all() for leaf in solution)
        np.testing.assert_array_equal(solution.status, Status.CONVERGED)
        assert solution.residual.max() <= 1e-6
    np.testing.assert_array_equal(ours.iterations, DEFAULT_ITERATIONS)


def test_every_step_lowers_the_delay_and_shrinks_the_spread_tenfold():
    rng = np.random.default_rng(5)
    load = jnp.asarray(10 ** rng.uniform(4, 9, 30), jnp.float32)
    snr_budgets = jnp.asarray(10 ** rng.uniform(-1, 8, 30), jnp.float32)
    shares = [np.asarray(gradient_shares(load, snr_budgets, k), np.float64) for k in range(9)]
    totals = [np.sum(load / (x * np.log1p(snr_budgets / x))) for x in shares]
    assert totals[0] > totals[1] > totals[2]
    logs = [np.log(x / shares[-1]) for x in shares]
    spreads = [log.max() - log.min() for log in logs]
    for before, after in itertools.pairwise(spreads[:4]):
        assert after <= 0.104 * before + 2e-6


def test_converges_from_far_outside_the_usual_range():
    load = jnp.asarray([1e-3, 1e12, 1.0, 1e6], jnp.float32)
    snr_budgets = jnp.asarray([1e12, 1e-6, 1e-2, 1e2], jnp.float32)
    short, long = (gradient_shares(load, snr_budgets, k) for k in (DEFAULT_ITERATIONS, 20))
    np.testing.assert_allclose(short, long, rtol=2e-3)
    np.testing.assert_allclose(long, normalise(long), rtol=1e-6)
