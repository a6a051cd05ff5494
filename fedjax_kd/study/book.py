"""Where the rounds of a study are kept as they come, and how they are taken up again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from fedjax_kd.study.checkpoint import Part
from fedjax_kd.study.outlet import Outlet
from fedjax_kd.study.timings import Timings


class Book(NamedTuple):
    """Where one part of a study is kept.

    Attributes:
        part: checkpoints of its state and of what happened.
        outlet: rows of its results.
        timings: seconds of its rounds.
    """

    part: Part
    outlet: Outlet
    timings: Timings


def joined(histories: Sequence[Any]) -> Any:
    """Several histories, one after the other along the leading axis of their arrays."""
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *histories)


def with_free_length(row: Any) -> Any:
    """Shapes of any number of such rows, as `Part.restore` takes them."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((-1, *leaf.shape), leaf.dtype), row)


def shapes_of(tree: Any) -> Any:
    """Shapes and dtypes of arrays, as `Part.restore` takes them."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), tree)


def placed_like(fresh: Any, kept: Any) -> Any:
    """Kept arrays where the engine put the fresh ones, for the same program to go on with them."""

    def place(fresh: jax.Array, kept: np.ndarray) -> jax.Array:
        return jax.make_array_from_callback(fresh.shape, fresh.sharding, lambda part: kept[part])

    return jax.tree.map(place, fresh, kept)
