"""The ledger: delay, energy, bits and FLOPs of every user and cause, and its rows for a table."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

CAUSES = ("teacher_inference", "uplink", "training_device", "training_server", "downlink")
"""What costs something, in the order in which it happens to a user."""


class Ledger(NamedTuple):
    """Prices by user and cause; the columns are `CAUSES`."""

    delay_s: jax.Array  # (N, 5) float32
    energy_j: jax.Array  # (N, 5) float32
    bits: jax.Array  # (N, 5) float32
    flops: jax.Array  # (N, 5) float32


class Timeline(NamedTuple):
    """When each cause begins and ends on every user's virtual clock."""

    start_s: jax.Array  # (N, 5) float32
    finish_s: jax.Array  # (N, 5) float32


def timeline(ledger: Ledger, start_s: jax.Array | float = 0.0) -> Timeline:
    """Puts a user's causes one after another, all users side by side.

    Args:
        ledger: of N users.
        start_s: when everybody starts, ().

    Returns:
        Start and finish of every cause; the last finish is start_s plus the user's whole delay.
    """
    finish_s = start_s + jnp.cumsum(ledger.delay_s, axis=-1)
    return Timeline(start_s=finish_s - ledger.delay_s, finish_s=finish_s)
