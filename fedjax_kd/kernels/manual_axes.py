"""Arguments of own-gradient functions inside `jax.shard_map`.

There, JAX keeps for every array the set of mesh axes along which it varies, and requires that a
gradient varies as its argument does. It inserts casts between built-in operations, but not before
functions with their own gradient.
"""

from __future__ import annotations

import jax
from jax import lax


def vary_alike(*arrays: jax.Array) -> tuple[jax.Array, ...]:
    """Casts arrays so that all vary along every mesh axis that one of them varies along.

    The gradient of the cast sums over the axes added, as for built-in operations. Outside of
    `jax.shard_map` the arrays are returned as they are.
    """
    varying = [jax.typeof(a).manual_axis_type.varying for a in arrays]
    axes = frozenset().union(*varying)
    return tuple(
        lax.pcast(a, tuple(sorted(axes - own)), to="varying") if axes - own else a
        for a, own in zip(arrays, varying, strict=True)
    )
