"""Joint actions of a user: which student it trains, and where.

One integer names both: ``action = student + M * place`` with M students, place 0 at the device
and place 1 at the server. The A = 2M actions of N users form the discrete part of the DT-KD
problem; users are decided in turn, and what a policy remembers of the users before is how many of
them train at the server.

Reference: Wang et al. 2023, arXiv:2303.06155 (the binary choice of place and the choice of model
per user are the paper's; the encoding and the state are our assumption).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

DEVICE = 0
SERVER = 1


def n_students(n_actions: int) -> int:
    """Returns M, the number of students behind A = 2M joint actions.

    Raises:
        ValueError: if A is odd or below 2.
    """
    if n_actions < 2 or n_actions % 2:
        raise ValueError(f"n_actions is {n_actions}: it must be 2 x the number of students")
    return n_actions // 2


def encode(student: jax.Array, place: jax.Array, students: int) -> jax.Array:
    """Joins student int32 [...] in 0..M-1 and place int32 [...] in {0, 1} to an action int32."""
    return student + students * place


def decode(actions: jax.Array, students: int) -> tuple[jax.Array, jax.Array]:
    """Splits actions int32 [...] into student int32 [...] and place int32 [...]."""
    return actions % students, actions // students


def offloaded_before(actions: jax.Array, students: int) -> jax.Array:
    """Counts, for each user in turn, the users before it that train at the server.

    Args:
        actions: int32 [N], joint actions.
        students: M.

    Returns:
        int32 [N]; entry n lies in 0..n, so a table over (user, count) has N x N rows of which
        N(N+1)/2 can be reached.
    """
    place = actions // students
    return jnp.cumsum(place, dtype=jnp.int32) - place


def offloaded(actions: jax.Array, students: int) -> jax.Array:
    """Returns the number of users that train at the server, int32 []."""
    return jnp.sum(actions // students, dtype=jnp.int32)
