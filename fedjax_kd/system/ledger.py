"""The ledger: delay, energy, bits and FLOPs of every user and cause, and its rows for a table."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

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


def ledger_columns(ledger: Ledger, **labels: int | str) -> dict[str, np.ndarray]:
    """Turns a ledger into the columns of a long table, one row for each user and cause.

    Args:
        ledger: of N users, concrete.
        **labels: constant columns put in front, such as `point`, `seed` and `policy`.

    Returns:
        Columns of equal length 5 N: the labels, `user` (int64), `cause`, then `delay_s`, `energy_j`,
        `bits` and `flops` (float64), ordered by user and then by cause.
    """
    n_users, n_causes = ledger.delay_s.shape
    n_rows = n_users * n_causes
    columns: dict[str, np.ndarray] = {
        name: np.full(n_rows, value, dtype=np.int64 if isinstance(value, int) else object)
        for name, value in labels.items()
    }
    columns["user"] = np.repeat(np.arange(n_users, dtype=np.int64), n_causes)
    columns["cause"] = np.tile(np.asarray(CAUSES, dtype=object), n_users)
    for name, value in ledger._asdict().items():
        columns[name] = np.asarray(value).astype(np.float64).reshape(n_rows)
    return columns
