"""Calculus of the transmission delay L / R(b), shared by every solver.

With l = ln(1 + c / b) the delay is L ln 2 / (b l), and its derivative in b is

    -(L ln 2 / b^2) phi(l),    phi(l) = (exp(-l) - 1 + l) / l^2.

phi falls slowly from 1/2 (l = 0, the noise drowns the signal) like 1 / l. Everything rests on how
slow that is: the elasticity of phi in b lies in [0, 0.2062] for every b and c (see
`STEEPEST_ELASTICITY`), so the delay is nearly a / b with a = L ln 2 phi, whose best division is the
square root rule. A compute delay C / f is that with elasticity exactly 0.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from fedjax_kd.system.channel import LARGEST_RATIO

STEEPEST_ELASTICITY = 0.2062
"""Largest d ln phi / d ln b, reached at c / b = 6.07 (found on a grid of 200,001 points)."""

SMALLEST_SHARE = 1e-20
"""Shares are kept above this inside logarithms; only a load of zero has a smaller one."""

_TAYLOR = tuple((-1.0) ** k / math.factorial(k + 2) for k in range(9))


def snr_per_share(share: jax.Array, snr_budgets: jax.Array) -> jax.Array:
    """The ratio c / b as a finite number.

    Args:
        share: b / B, any shape, in [0, 1].
        snr_budgets: c / B, same shape.

    Returns:
        c / b, same shape, limited to `LARGEST_RATIO`.
    """
    return jnp.minimum(snr_budgets / jnp.maximum(share, SMALLEST_SHARE), LARGEST_RATIO)


def slope_factor(ratio: jax.Array, nats: jax.Array) -> jax.Array:
    """phi, to float32 accuracy on the whole range.

    Args:
        ratio: c / b, any shape, not negative.
        nats: ln(1 + c / b), same shape.

    Returns:
        phi in (0, 1/2], same shape.
    """
    near_zero = jnp.full_like(nats, _TAYLOR[-1])
    for coefficient in _TAYLOR[-2::-1]:
        near_zero = near_zero * nats + coefficient
    safe = jnp.maximum(nats, 1.0)
    return jnp.where(nats < 1.0, near_zero, (safe - 1.0 + 1.0 / (1.0 + ratio)) / (safe * safe))


def normalise(weights: jax.Array) -> jax.Array:
    """Scales non-negative weights (N,) to sum to one; all zero stays all zero."""
    total = jnp.sum(weights)
    return weights / jnp.where(total > 0, total, 1.0)
