"""Optimal shares from the optimality conditions: the oracle for the default solver.

Compute: f_n = F sqrt(C_n) / sum_j sqrt(C_j). Bandwidth: L_n R'(b_n) / R(b_n)^2 = mu for all n, by
nested bisection (section 1.4 of the reconstruction of Wang et al. 2023, arXiv:2303.06155). In
shares of the budget the condition reads mu x^2 = L phi(l(x)). Since phi lies between
`_SMALLEST_SLOPE` and 1/2, both the share and the multiplier lie in brackets of fixed width in log
space, and `_BISECTIONS` halvings take them to float32 accuracy, whatever the instance.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from fedjax_kd.allocation.shannon import normalise, slope_factor, snr_per_share

_SMALLEST_SLOPE = 0.01  # phi where ln(1 + c / b) = 99; float32 ratios end at 69
_BISECTIONS = 26  # brackets are 2 wide in log space: 2 / 2^26 = 3e-8


def square_root_shares(load: jax.Array) -> jax.Array:
    """Shares (N,) of the budget that minimise sum_n load_n / share_n: the square root rule."""
    return normalise(jnp.sqrt(load))


def bisection_shares(load: jax.Array, snr_budgets: jax.Array) -> jax.Array:
    """Shares of one band that minimise the summed transmission delay, by nested bisection.

    Args:
        load: (N,) bits, not negative; zero takes no part.
        snr_budgets: (N,) c / B, the user's snr_hz over the band's budget.

    Returns:
        Shares (N,) of the budget, summing to one unless all loads are zero.
    """
    # An optimal share is sqrt(load phi / mu): with the loads' roots normalised to sum to one,
    # sqrt(mu) is a mean of sqrt(phi), and so lies where sqrt(phi) lies.
    root = square_root_shares(load)
    low, high = 0.5 * math.log(_SMALLEST_SLOPE), 0.5 * math.log(0.5)

    def shares_at(log_root_mu: jax.Array) -> jax.Array:
        def halve(_: int, bracket: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            # The unknown is ln sqrt(phi); the share is root exp(ln sqrt(phi) - ln sqrt(mu)).
            below, above = bracket
            middle = 0.5 * (below + above)
            ratio = snr_per_share(root * jnp.exp(middle - log_root_mu), snr_budgets)
            too_low = 0.5 * jnp.log(slope_factor(ratio, jnp.log1p(ratio))) > middle
            return jnp.where(too_low, middle, below), jnp.where(too_low, above, middle)

        bounds = jnp.full_like(root, low), jnp.full_like(root, high)
        below, above = jax.lax.fori_loop(0, _BISECTIONS, halve, bounds)
        return root * jnp.exp(0.5 * (below + above) - log_root_mu)

    def halve_mu(_: int, bracket: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        below, above = bracket
        middle = 0.5 * (below + above)
        mu_too_low = jnp.sum(shares_at(middle)) > 1
        return jnp.where(mu_too_low, middle, below), jnp.where(mu_too_low, above, middle)

    start = jnp.full((), low, root.dtype), jnp.full((), high, root.dtype)
    below, above = jax.lax.fori_loop(0, _BISECTIONS, halve_mu, start)
    return normalise(shares_at(0.5 * (below + above)))
