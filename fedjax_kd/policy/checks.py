"""What a policy asks of its arguments, checked before anything is compiled."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer


def check_feasible(feasible: jax.Array) -> tuple[int, int]:
    """Checks a mask of feasible actions and returns (N, A).

    Args:
        feasible: bool [N, A]. Its values are looked at only where they are concrete.

    Raises:
        ValueError: for a wrong shape or type, or a user without a feasible action.
    """
    if (
        feasible.ndim != 2
        or feasible.shape[0] < 1
        or feasible.shape[1] < 2
        or feasible.shape[1] % 2
    ):
        raise ValueError(
            f"feasible has shape {feasible.shape}: it must be [N, A] with N >= 1 users and "
            "A = 2 x the number of students"
        )
    if feasible.dtype != jnp.bool_:
        raise ValueError(f"feasible has type {feasible.dtype}: it must be bool")
    if not isinstance(feasible, Tracer):
        stuck = np.flatnonzero(~np.asarray(feasible).any(axis=-1))
        if stuck.size:
            raise ValueError(
                f"feasible leaves user {stuck[0]} without an action ({stuck.size} such users): "
                "every user needs at least one"
            )
    return feasible.shape[0], feasible.shape[1]


def check_prefix_utility(prefix_utility: Callable[[jax.Array], jax.Array], users: int) -> None:
    """Checks that `prefix_utility` maps int32 [N] to float32 [N+1], without running it.

    Raises:
        ValueError: naming what it returns instead.
    """
    out = jax.eval_shape(prefix_utility, jax.ShapeDtypeStruct((users,), jnp.int32))
    if not hasattr(out, "shape") or out.shape != (users + 1,) or out.dtype != jnp.float32:
        raise ValueError(
            f"prefix_utility returns {out} for {users} users: it must return float32 "
            f"[{users + 1}], U after the first 0..{users} users are decided"
        )
