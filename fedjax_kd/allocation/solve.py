"""One call for every method and objective."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp

from fedjax_kd.allocation.certificate import Loads, delays_s, gap_s, loads_of
from fedjax_kd.allocation.closed_form import bisection_shares, square_root_shares
from fedjax_kd.allocation.equal import equal_shares
from fedjax_kd.allocation.makespan import makespan_shares
from fedjax_kd.allocation.problem import AllocationProblem, AllocationSolution, Status
from fedjax_kd.allocation.projected_gradient import DEFAULT_ITERATIONS, gradient_shares

Method = Literal["projected_gradient", "closed_form", "equal"]
Objective = Literal["sum", "makespan"]

METHODS: tuple[Method, ...] = ("projected_gradient", "closed_form", "equal")
OBJECTIVES: tuple[Objective, ...] = ("sum", "makespan")

_MAKESPAN_ROUNDS = {"projected_gradient": 3, "closed_form": 14}
_NEWTON_STEPS = {"projected_gradient": 5, "closed_form": 8}


def solve(
    problem: AllocationProblem,
    method: Method = "projected_gradient",
    objective: Objective = "sum",
    *,
    iterations: int | None = None,
    tolerance: float = 1e-5,
) -> AllocationSolution:
    """Divides the server's compute and both bands among the users.

    Pure and of fixed cost, so it may be jitted and vmapped; `method`, `objective` and `iterations`
    are static. Users without a load get a share and a delay of exactly zero, users that are alike
    get shares that are alike. Check a problem that comes from outside with `validate` first.

    With objective `sum` the problem separates. `projected_gradient` and `closed_form` solve it as
    their files say. With `makespan` both use the method of `makespan.py`; `closed_form` repeats it
    until float32 is exhausted. `equal` optimises nothing.

    Args:
        problem: one instance, N users.
        method: one of `METHODS`.
        objective: `sum` of the users' delays, or `makespan`, the largest of them.
        iterations: steps of the projected gradient or rounds of the makespan; none takes the
            method's default, the nested bisection and the equal split take none.
        tolerance: largest residual that is called converged.

    Returns:
        Shares, delays, status and residual; see `AllocationSolution`.

    Raises:
        ValueError: for an unknown method or objective or fewer than one iteration.

    Reference: Wang et al. 2023, arXiv:2303.06155, whose convex step this reconstructs.
    """
    if method not in METHODS:
        raise ValueError(f"method = {method!r}; must be one of {', '.join(METHODS)}")
    if objective not in OBJECTIVES:
        raise ValueError(f"objective = {objective!r}; must be one of {', '.join(OBJECTIVES)}")
    if iterations is not None and iterations < 1:
        raise ValueError(f"iterations = {iterations}; must be at least 1")
    loads = loads_of(problem)
    fixed_s = problem.fixed_s
    if fixed_s is None:
        fixed_s = jnp.zeros_like(problem.compute_flops)

    if method == "equal":
        shares, taken = jax.vmap(equal_shares)(loads.unit_s), 0
        lowest_s = _lowest_s(loads, fixed_s, objective)
    elif objective == "sum":
        shares, taken = _sum_shares(loads, method, iterations)
        lowest_s = None
    else:
        taken = iterations or _MAKESPAN_ROUNDS[method]
        shares, weights = makespan_shares(loads, fixed_s, taken, _NEWTON_STEPS[method])
        lowest_s = _dual_value_s(loads, fixed_s, shares, weights)

    budgets = (problem.server_flops_per_s, problem.uplink_hz, problem.downlink_hz)
    served = jnp.stack([budget > 0 for budget in budgets])[:, None] | (loads.unit_s == 0)
    each_s = jnp.where(served, delays_s(loads, shares), jnp.inf)
    delay_s = fixed_s + jnp.sum(each_s, axis=0)
    total_s = jnp.sum(delay_s) if objective == "sum" else jnp.max(delay_s)
    above_s = gap_s(loads, shares) if lowest_s is None else jnp.maximum(total_s - lowest_s, 0.0)
    measurable = jnp.isfinite(total_s) & (total_s > 0)
    residual = jnp.where(measurable, above_s / jnp.where(measurable, total_s, 1.0), 0.0)
    return AllocationSolution(
        server_flops_per_s=shares[0] * problem.server_flops_per_s,
        uplink_hz=shares[1] * problem.uplink_hz,
        downlink_hz=shares[2] * problem.downlink_hz,
        compute_s=each_s[0],
        uplink_s=each_s[1],
        downlink_s=each_s[2],
        delay_s=delay_s,
        total_s=total_s,
        status=_status(problem, method, total_s, residual, tolerance),
        iterations=jnp.asarray(taken, jnp.int32),
        residual=residual,
    )


def _sum_shares(loads: Loads, method: Method, iterations: int | None) -> tuple[jax.Array, int]:
    """Shares (3, N) for the objective `sum`, and the number of steps."""
    steps = iterations or DEFAULT_ITERATIONS
    compute, bands = loads.unit_s[0], loads.unit_s[1:]
    if method == "closed_form":
        steps = 0
        band_shares = jax.vmap(bisection_shares)(bands, loads.snr_budgets)
    else:
        band_shares = jax.vmap(gradient_shares, in_axes=(0, 0, None))(
            bands, loads.snr_budgets, steps
        )
    return jnp.concatenate([square_root_shares(compute)[None], band_shares]), steps


def _dual_value_s(
    loads: Loads, fixed_s: jax.Array, shares: jax.Array, weights: jax.Array
) -> jax.Array:
    """Lower bound () on the makespan: the least weighted mean of the delays, or a fixed delay."""
    delay_s = fixed_s + jnp.sum(delays_s(loads, shares), axis=0)
    mean_s = jnp.sum(jnp.where(weights > 0, weights * delay_s, 0.0))
    return jnp.maximum(mean_s - gap_s(loads, shares, weights), jnp.max(fixed_s))


def _lowest_s(loads: Loads, fixed_s: jax.Array, objective: Objective) -> jax.Array:
    """Lower bound () on the objective, by solving the problem."""
    if objective == "sum":
        shares, _ = _sum_shares(loads, "projected_gradient", None)
        return jnp.sum(fixed_s) + jnp.sum(delays_s(loads, shares)) - gap_s(loads, shares)
    method = "projected_gradient"
    solved = makespan_shares(loads, fixed_s, _MAKESPAN_ROUNDS[method], _NEWTON_STEPS[method])
    return _dual_value_s(loads, fixed_s, *solved)


def _status(
    problem: AllocationProblem,
    method: Method,
    total_s: jax.Array,
    residual: jax.Array,
    tolerance: float,
) -> jax.Array:
    """The `Status` () of a solve, worst news first."""
    sound = jnp.asarray(True)
    for leaf in jax.tree.leaves(problem):
        sound = sound & jnp.all(jnp.isfinite(leaf) & (leaf >= 0))
    missed = Status.NOT_OPTIMISED if method == "equal" else Status.ITERATION_LIMIT
    status = jnp.where(residual <= tolerance, int(Status.CONVERGED), int(missed))
    status = jnp.where(jnp.isinf(total_s), int(Status.INFEASIBLE), status)
    return jnp.where(sound, status, int(Status.INVALID)).astype(jnp.int32)
