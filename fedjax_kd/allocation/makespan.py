"""Shares that minimise the last user's finishing time, over all three resources at once.

Problem: min t subject to fixed_n + C_n / f_n + U_n / R(u_n) + D_n / R(d_n) <= t. The optimum
couples the resources, because a user's delays add up. Two ideas solve it.

*Reciprocal model.* Around given shares every delay is replaced by `constant + a / share`, which
touches it to first order and lies above it (see `projected_gradient.py`); solving the modelled
problem and modelling again lowers t in every round.

*The modelled problem is an eigenvalue problem.* Let v_n = (sqrt(a_n^compute), sqrt(a_n^up),
sqrt(a_n^down)) and slack d_n(t) = t - constants_n. With prices p_r = s_r^2 on the resources, |s| =
1, user n meets the deadline most cheaply with the shares x_nr = (v_nr / s_r) (v_n . s) / d_n, at
the cost (v_n . s)^2 / d_n. The deadline can be met iff no prices make the total cost exceed one,
that is iff the largest eigenvalue of the 3 x 3 matrix M(t) = sum_n v_n v_n^T / d_n(t) is at most
one. So t solves lambda(t) = 1, the Perron vector is s, and x follows. 1 / lambda is a minimum of
harmonic means of the slacks, hence concave and increasing in t: Newton's method from below
converges monotonically. With compute alone this is the known condition sum_n C_n / (t - rest_n) =
F.

The dual weights of the users, w_n proportional to ((v_n . s) / d_n)^2, turn the answer into a lower
bound on t by way of the weighted sum; see `certificate.py`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from fedjax_kd.allocation.certificate import Loads, reciprocal_model
from fedjax_kd.allocation.closed_form import square_root_shares
from fedjax_kd.allocation.shannon import normalise

_FIRST, _SECOND = (0, 1, 2, 0, 0, 1), (0, 1, 2, 1, 2, 2)  # pairs of resources, diagonal first
_POWERINGS = 4  # power 8^4 = 2^12: separates eigenvalues that differ by 0.1 %
_UNPACK = ((0, 3, 4), (3, 1, 5), (4, 5, 2))
_POLISHINGS = 2  # products with the matrix itself, against rounding in its powers
_SMALLEST_PRICE_ROOT = 1e-6  # a resource that nobody is short of still needs a price, to be divided
_Carry = tuple[jax.Array, jax.Array, jax.Array]  # shares, weights, deadline in seconds


class MakespanShares(NamedTuple):
    """Shares of the three budgets, and the users' weights in the dual problem."""

    shares: jax.Array  # (3, N), rows summing to one unless unused
    weights: jax.Array  # (N,), summing to one over the users with a load


def makespan_shares(
    loads: Loads, fixed_s: jax.Array, iterations: int, newton_steps: int
) -> MakespanShares:
    """Minimises max_n (fixed_n + the three delays of user n).

    Args:
        loads: of the three resources, N users.
        fixed_s: (N,) constant delays in seconds.
        iterations: rounds of modelling and solving, static.
        newton_steps: steps on the deadline in each round, static.

    Returns:
        Shares (3, N) and dual weights (N,).
    """
    loaded = jnp.any(loads.unit_s > 0, axis=0)

    def round_of(_: int, carry: _Carry) -> _Carry:
        shares, _weights, deadline_s = carry
        constant_s, slope_s = reciprocal_model(loads, shares)
        rest_s = jnp.where(loaded, fixed_s + jnp.sum(constant_s, axis=0), 0.0)
        roots = jnp.sqrt(slope_s)
        latest_s = jnp.max(rest_s)
        lead_s = jnp.where(loaded, latest_s - rest_s, jnp.inf)
        slack_s, price_roots = _deadline(roots, lead_s, deadline_s - latest_s, newton_steps)
        valued = jnp.sum(roots * price_roots[:, None], axis=0) / slack_s
        wanted = roots * valued[None, :] / price_roots[:, None]
        shares = jax.vmap(normalise)(wanted)
        return shares, valued * valued, latest_s + jnp.min(slack_s)

    start = jax.vmap(square_root_shares)(loads.unit_s), jnp.zeros_like(fixed_s), jnp.float32(0)
    shares, weights, _ = jax.lax.fori_loop(0, iterations, round_of, start)
    return MakespanShares(shares, normalise(weights))


def _deadline(
    roots: jax.Array, lead_s: jax.Array, guess_s: jax.Array, newton_steps: int
) -> tuple[jax.Array, jax.Array]:
    """Solves lambda(t) = 1 by Newton's method on 1 / lambda.

    The unknown is the slack of the user whose constants are largest, so that no digits cancel.

    Args:
        roots: (3, N) square roots of the model's slopes.
        lead_s: (N,) by how much a user's constants fall short of the largest; infinite without a
            load.
        guess_s: () of the unknown; any number will do.
        newton_steps: static.

    Returns:
        Slack d_n (N,) in seconds (infinite without load) and square roots of the prices (3,).
    """
    least_s = jnp.max(jnp.sum(roots * roots, axis=0) - lead_s)
    least_s = jnp.where(least_s > 0, least_s, 1.0)  # not positive only if nobody has a load
    slack_s = jnp.maximum(guess_s, least_s)
    products = roots[jnp.asarray(_FIRST)] * roots[jnp.asarray(_SECOND)]  # (6, N)
    price_roots = jnp.full(3, math.sqrt(1 / 3), roots.dtype)
    for _ in range(newton_steps):
        inverse = 1.0 / (lead_s + slack_s)
        power = _power_of_eight(jnp.sum(products * inverse[None, :], axis=1))
        price_roots = _multiply(power, price_roots)
        costs = jnp.sum(roots * price_roots[:, None], axis=0)
        value = jnp.sum(costs * costs * inverse)
        steepness = jnp.sum((costs * inverse) ** 2)
        step_s = value * (value - 1.0) / jnp.where(steepness > 0, steepness, 1.0)
        slack_s = jnp.maximum(slack_s + step_s, least_s)
    slacks_s = lead_s + slack_s
    matrix = jnp.sum(products / slacks_s[None, :], axis=1)
    power = jax.lax.fori_loop(0, _POWERINGS, lambda _, packed: _power_of_eight(packed), matrix)
    price_roots = _multiply(power, price_roots)
    for _ in range(_POLISHINGS):
        price_roots = _multiply(matrix, price_roots)
    return slacks_s, jnp.maximum(price_roots, _SMALLEST_PRICE_ROOT)


def _power_of_eight(packed: jax.Array) -> jax.Array:
    """Eighth power, up to a factor, of a symmetric non-negative 3 x 3 matrix.

    Written entry by entry, so that it compiles to one loop over a batch of matrices. Nothing is
    subtracted, so small entries keep their digits.

    Args:
        packed: (6,) the entries 00, 11, 22, 01, 02, 12.

    Returns:
        (6,) likewise, of the matrix scaled to trace one.
    """
    a, b, c, d, e, f = (packed[k] for k in range(6))
    trace = a + b + c
    scale = 1.0 / jnp.where(trace > 0, trace, 1.0)
    a, b, c, d, e, f = (entry * scale for entry in (a, b, c, d, e, f))
    for _ in range(3):
        a, b, c, d, e, f = (
            a * a + d * d + e * e,
            d * d + b * b + f * f,
            e * e + f * f + c * c,
            d * (a + b) + e * f,
            e * (a + c) + d * f,
            f * (b + c) + d * e,
        )
    return jnp.stack([a, b, c, d, e, f])


def _multiply(packed: jax.Array, vector: jax.Array) -> jax.Array:
    """Product (3,) of a packed matrix (6,) and a vector (3,), scaled to length one."""
    matrix = packed[jnp.asarray(_UNPACK)]
    product = jnp.matmul(matrix, vector, precision=jax.lax.Precision.HIGHEST)
    length = jnp.sqrt(jnp.sum(product * product))
    return jnp.where(length > 0, product / jnp.where(length > 0, length, 1.0), vector)
