"""Calls of native entry points from traced programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec


def call_native(
    target: str,
    shapes: Sequence[tuple[int, ...]],
    *arrays: jax.Array,
    dtypes: Sequence[Any] | None = None,
    aliases: dict[int, int] | None = None,
    **attributes: Any,
) -> list[jax.Array]:
    """Calls an entry point of the native library.

    Under `vmap` the calls are made one after another. Inside `jax.shard_map` the results vary along
    the mesh axes along which the arrays vary, which must be the same for all of them.

    Args:
        target: its name in `TARGETS`.
        shapes: shape of each result.
        *arrays: the arguments, row-major.
        dtypes: of each result; None takes float32 for all.
        aliases: index of an argument to index of the result that is written over it.
        **attributes: NumPy scalars or arrays (int64 unless the entry point says otherwise).

    Returns:
        The results.
    """
    dtypes = [jax.numpy.float32] * len(shapes) if dtypes is None else dtypes
    like = jax.typeof(arrays[0])
    results = [
        jax.ShapeDtypeStruct(
            shape,
            dtype,
            sharding=NamedSharding(like.sharding.mesh, PartitionSpec(*[None] * len(shape))),
            manual_axis_type=like.manual_axis_type,
        )
        for shape, dtype in zip(shapes, dtypes, strict=True)
    ]
    made = jax.ffi.ffi_call(target, results, vmap_method="sequential", input_output_aliases=aliases)
    return list(made(*arrays, **attributes))
