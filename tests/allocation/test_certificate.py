import jax
import jax.numpy as jnp
import numpy as np
from allocation_instances import BATCHED, delays_float64, random_batch, shares_of, solve_batch

from fedjax_kd.allocation.certificate import delays_s, gap_s, loads_of, reciprocal_model
from fedjax_kd.allocation.shannon import normalise

BATCH = random_batch(300, seed=7, most_users=12)


def _random_shares(loads, seed):
    draw = jax.random.exponential(jax.random.key(seed), loads.unit_s.shape) + 1e-3
    return jax.vmap(normalise)(jnp.where(loads.unit_s > 0, draw, 0.0))


def test_gap_bounds_the_distance_to_the_optimum_of_any_feasible_shares():
    def measure(problem):
        loads = loads_of(problem)
        shares = _random_shares(loads, seed=1)
        return jnp.sum(delays_s(loads, shares)), gap_s(loads, shares)

    value, bound = jax.jit(jax.vmap(measure, in_axes=(BATCHED,)))(BATCH)
    optimal = solve_batch(BATCH, "closed_form")
    best = (delays_float64(BATCH, shares_of(optimal)) - np.asarray(BATCH.fixed_s)).sum(axis=1)
    distance, bound = np.asarray(value, np.float64) - best, np.asarray(bound, np.float64)
    assert (distance <= bound + 1e-5 * best).all()
    contested = bound > 1e-3 * best
    assert contested.sum() > 200
    assert np.median(distance[contested] / bound[contested]) > 0.3  # and it is not vacuous


def test_reciprocal_model_touches_the_delays_and_lies_above_them():
    def measure(problem):
        loads = loads_of(problem)
        at, elsewhere = _random_shares(loads, seed=2), _random_shares(loads, seed=3)
        constant_s, slope_s = reciprocal_model(loads, at)
        busy = loads.unit_s > 0

        def model(x):
            return jnp.where(busy, constant_s + slope_s / jnp.where(busy, x, 1.0), 0.0)

        return model(at), delays_s(loads, at), model(elsewhere), delays_s(loads, elsewhere)

    touching, exact, above, below = jax.jit(jax.vmap(measure, in_axes=(BATCHED,)))(BATCH)
    np.testing.assert_allclose(touching, exact, rtol=3e-6)
    assert (above >= below * (1 - 3e-6)).all()
    assert (above > below * 1.01).any()
