"""What shares cost, and a proof of how far from the optimum they can be.

Resources are rows: 0 the server's compute, 1 the uplink, 2 the downlink. Budgets are scaled to one.

The bound. At shares x let m_n = a_n / x_n^2 be the marginal delays (a_n as in `reciprocal_model`);
at the optimum all are equal. Because a_n changes with elasticity in [0, e], each delay lies above a
power law of exponent -(1 - e) that touches it at x_n. The power laws' optimum is known in closed
form, and with power means M_k over the weights x it gives

    f(x) - f* <= (M_1(m) - M_{1/(2-e)}(m)) / (1 - e) <= Var(sqrt(m)) / (1 - e),

a bound of second order in the error, which needs nothing but the last iterate.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fedjax_kd.allocation.problem import AllocationProblem
from fedjax_kd.allocation.shannon import (
    SMALLEST_SHARE,
    STEEPEST_ELASTICITY,
    slope_factor,
    snr_per_share,
)

_LOOSENESS = (1.0, 1.0 / (1.0 - STEEPEST_ELASTICITY), 1.0 / (1.0 - STEEPEST_ELASTICITY))


class Loads(NamedTuple):
    """A problem with its budgets scaled to one."""

    unit_s: jax.Array  # (3, N), delay = unit_s / share, for bands / (share ln(1 + c / b))
    snr_budgets: jax.Array  # (2, N), snr_hz over the band's budget


def loads_of(problem: AllocationProblem) -> Loads:
    """Scales a problem; a budget of zero is replaced by one, so that shares stay defined."""
    server_flops_per_s, uplink_hz, downlink_hz = (
        jnp.where(budget > 0, budget, 1.0)
        for budget in (problem.server_flops_per_s, problem.uplink_hz, problem.downlink_hz)
    )
    nats_per_bit = math.log(2.0)
    return Loads(
        unit_s=jnp.stack(
            [
                problem.compute_flops / server_flops_per_s,
                problem.uplink_bits * (nats_per_bit / uplink_hz),
                problem.downlink_bits * (nats_per_bit / downlink_hz),
            ]
        ),
        snr_budgets=jnp.stack(
            [problem.uplink_snr_hz / uplink_hz, problem.downlink_snr_hz / downlink_hz]
        ),
    )


def delays_s(loads: Loads, shares: jax.Array) -> jax.Array:
    """Delays (3, N) in seconds of shares (3, N); zero without load, infinite over a dead link."""
    nats = jnp.log1p(snr_per_share(shares[1:], loads.snr_budgets))
    speed = jnp.concatenate([shares[:1], shares[1:] * nats])
    loaded = loads.unit_s > 0
    return jnp.where(loaded, loads.unit_s / jnp.where(loaded, speed, 1.0), 0.0)


def reciprocal_model(loads: Loads, shares: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The delays near given shares as constant + a / share, tangent to the delays and above them.

    Args:
        loads: of the three resources, N users.
        shares: (3, N), positive where there is a load.

    Returns:
        Constants (3, N) and a (3, N), in seconds. For compute the constant is zero and the model
        exact.
    """
    ratio = snr_per_share(shares[1:], loads.snr_budgets)
    nats = jnp.log1p(ratio)
    slope_s = loads.unit_s[1:] * slope_factor(ratio, nats)
    nats = jnp.maximum(nats, 1e-15)
    saturation = ratio / (1.0 + ratio) / nats / nats
    constant_s = loads.unit_s[1:] / jnp.maximum(shares[1:], SMALLEST_SHARE) * saturation
    return (
        jnp.concatenate([jnp.zeros_like(slope_s[:1]), constant_s]),
        jnp.concatenate([loads.unit_s[:1], slope_s]),
    )


def gap_s(loads: Loads, shares: jax.Array, weights: jax.Array | None = None) -> jax.Array:
    """Bound on how far the (weighted) sum of all delays lies above its least value.

    Args:
        loads: of the three resources, N users.
        shares: (3, N), each row positive where there is a load and summing to one.
        weights: (N,) not negative; none weighs everybody one.

    Returns:
        Seconds (), not negative; rounding not included.
    """
    _, slope_s = reciprocal_model(loads, shares)
    roots = jnp.sqrt(slope_s if weights is None else slope_s * weights[None, :])
    marginal_roots = roots / jnp.maximum(shares, SMALLEST_SHARE)
    mean = jnp.sum(roots, axis=1, keepdims=True)
    variance = jnp.sum(shares * (marginal_roots - mean) ** 2, axis=1)
    return jnp.sum(variance * jnp.asarray(_LOOSENESS, variance.dtype))
