"""The equal split: what a system without an optimiser would do, and the baseline to beat."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from fedjax_kd.allocation.shannon import normalise


def equal_shares(load: jax.Array) -> jax.Array:
    """Divides a budget equally among the users that have a load.

    Args:
        load: (N,), not negative, any unit.

    Returns:
        Shares (N,) of the budget: equal and summing to one over the loaded users, zero elsewhere.
    """
    return normalise((load > 0).astype(jnp.float32))
