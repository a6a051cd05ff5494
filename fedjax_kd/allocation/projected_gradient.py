"""Projected gradient for min sum_n L_n / R(b_n) over shares of one band: the default solver.

The step is x+ = argmin over the simplex of <grad f(x), y> + D(y, x), where D is the Bregman
distance of the separable kernel sum_n a_n / y_n with a_n = -f_n'(x_n) x_n^2, renewed at every
point. The kernel's Hessian at x is the diagonal Hessian of the objective up to a factor between 1
and 1.12, so this is a projected gradient scaled by the diagonal Hessian, in a geometry where the
step cannot leave the simplex and where the projection onto the budget is exact: its multiplier is
(sum_n sqrt(a_n))^2, hence x+ proportional to sqrt(a_n).

Two facts make it safe with a handful of fixed steps, for every instance (see `shannon.py`: the
elasticity e of phi lies in [0, 0.2062]):

- the kernel plus its tangent lies above the objective, so every step lowers the objective;
- ln x moves by half of what ln phi moves, so the spread max ln(x / x*) - min ln(x / x*) shrinks by
  e / 2 <= 0.104 in every step, and the relative gap, which is at most a quarter of the square of
  the spread, by 0.011.

From the square root rule on the loads the spread starts below ln(sqrt(phi_max / phi_min)), which is
0.6 for c / b between 1e2 and 1e8 and 1.4 up to 1e12: three steps leave a gap below 1e-6, four below
1e-8, before rounding.

For the server's compute the kernel is the objective itself, and the first step from anywhere is the
optimum: `closed_form.square_root_shares`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from fedjax_kd.allocation.shannon import normalise, slope_factor, snr_per_share

DEFAULT_ITERATIONS = 3


def gradient_shares(load: jax.Array, snr_budgets: jax.Array, iterations: int) -> jax.Array:
    """Shares of one band that minimise the summed transmission delay.

    Args:
        load: (N,) bits, not negative; zero takes no part.
        snr_budgets: (N,) c / B, the user's snr_hz over the band's budget.
        iterations: number of steps, static.

    Returns:
        Shares (N,) of the budget, summing to one unless all loads are zero.
    """
    root = jnp.sqrt(load)
    share = normalise(root)
    for _ in range(iterations):
        ratio = snr_per_share(share, snr_budgets)
        share = normalise(root * jnp.sqrt(slope_factor(ratio, jnp.log(1.0 + ratio))))
    return share
