"""Trees of arrays as named arrays on the host, and back: what a checkpoint holds.

A leaf is named by its path, e.g. `.clients['params']['dense']['kernel']`. Typed random keys become
the numbers that they are made of, and the name of their kind. Arrays may be cut over devices, also
those of other processes; what is returned is whole, and nobody else's memory.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from fedjax_kd.training.processes import bytes_from_first

Tree = Any
ANY_LENGTH = -1  # as the leading length of an expected array
_PLAIN = "biufcV"  # kinds of NumPy dtypes; V: those of ml_dtypes, e.g. bfloat16


class TreeError(ValueError):
    """A tree that cannot be saved, or that is not the expected one; the text names the leaf."""


class Leaf(NamedTuple):
    """One array of a tree, as numbers on the host.

    Attributes:
      numbers: the array; of random keys their words, uint32 [..., words].
      key_impl: how random keys are drawn from, e.g. `threefry2x32`; None for other arrays.
    """

    numbers: np.ndarray
    key_impl: str | None = None


def host_leaves(
    tree: Tree, reuse: Mapping[str, Leaf] | None = None, wanted: bool = True
) -> dict[str, Leaf]:
    """Copies the leaves of a tree to the host, so that the tree may be given away afterwards.

    With several processes all must call it on the same tree, of which each may hold a part.

    Args:
      tree: pytree of arrays, typed random keys and Python numbers.
      reuse: leaves that an earlier call returned and nobody reads any more: their memory is written
        anew where a leaf still has that shape and dtype, for fresh memory is slow to write to.
      wanted: False in processes that only help: they get nothing.

    Returns:
      Leaves by name.

    Raises:
      TreeError: a leaf is neither an array of numbers nor of random keys.
    """
    named = [(_name(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)]
    for _, leaf in named:
        if wanted and isinstance(leaf, jax.Array) and not _is_key(leaf) and not _on_cpu(leaf):
            leaf.copy_to_host_async()
    copied: dict[str, Leaf] = {}
    for name, leaf in named:
        impl = None
        if _is_key(leaf):
            impl = str(jax.random.key_impl(leaf))
            leaf = jax.random.key_data(leaf)
        if isinstance(leaf, jax.Array) and not (
            leaf.is_fully_addressable or leaf.is_fully_replicated
        ):
            leaf = _everywhere(leaf)
        if wanted:
            old = reuse.get(name) if reuse else None
            copied[name] = Leaf(_copied(name, leaf, None if old is None else old.numbers), impl)
    return copied


def described(leaf: Leaf) -> dict[str, Any]:
    """Returns shape, dtype and CRC-32 of a leaf's numbers for JSON, and the kind of its keys."""
    numbers = leaf.numbers
    found = {"shape": list(numbers.shape), "dtype": numbers.dtype.name, "crc32": checksum(numbers)}
    return found if leaf.key_impl is None else {**found, "key_impl": leaf.key_impl}


def checksum(numbers: np.ndarray) -> int:
    """CRC-32 of an array's bytes in row-major order."""
    return zlib.crc32(_bytes_of(numbers).data)


def require_like(like: Tree, descriptions: Mapping[str, Mapping[str, Any]]) -> None:
    """Makes sure that described leaves are those of an expected tree.

    Args:
      like: pytree of arrays or `jax.ShapeDtypeStruct`; a leading length of -1 stands for any.
      descriptions: as `described` returns them, by name.

    Raises:
      TreeError: a leaf is missing, is one too many, or has another shape or dtype.
    """
    expected = dict(_expected(like))
    for name, (shape, dtype) in expected.items():
        wanted = _spelled(dtype, shape)
        if name not in descriptions:
            raise TreeError(f"leaf {name or 'of the tree'}: expected {wanted}; found nothing")
        found_shape, found_dtype = _declared(descriptions[name])
        same = len(shape) == len(found_shape) and all(
            length == found or (axis == 0 and length == ANY_LENGTH)
            for axis, (length, found) in enumerate(zip(shape, found_shape, strict=True))
        )
        if not same or dtype != found_dtype:
            found = _spelled(found_dtype, found_shape)
            raise TreeError(f"leaf {name or 'of the tree'}: expected {wanted}; found {found}")
    for name, description in descriptions.items():
        if name not in expected:
            shape, dtype = _declared(description)
            raise TreeError(f"leaf {name}: expected nothing; found {_spelled(dtype, shape)}")


def rebuilt(like: Tree, leaves: Mapping[str, Leaf]) -> Tree:
    """Puts leaves into the structure of a tree that they are those of: NumPy arrays, typed keys."""
    paths, structure = jax.tree_util.tree_flatten_with_path(like)
    arrays = []
    for path, _ in paths:
        leaf = leaves[_name(path)]
        keys = leaf.key_impl is not None
        arrays.append(
            jax.random.wrap_key_data(jnp.asarray(leaf.numbers), impl=leaf.key_impl)
            if keys
            else leaf.numbers
        )
    return jax.tree.unflatten(structure, arrays)


def leaves_from_first(
    leaves: Mapping[str, Leaf] | None, descriptions: Mapping[str, Mapping[str, Any]]
) -> dict[str, Leaf]:
    """The leaves of process 0, in all processes; all must call it.

    Args:
      leaves: in process 0; the others have none.
      descriptions: of the leaves, in their order; the same in every process.
    """
    if leaves is not None and jax.process_count() == 1:
        return dict(leaves)
    kinds = [(np.dtype(jnp.dtype(d["dtype"])), tuple(d["shape"])) for d in descriptions.values()]
    lengths = [dtype.itemsize * math.prod(shape) for dtype, shape in kinds]
    data = None
    if leaves is not None:
        flat = [_bytes_of(leaves[name].numbers) for name in descriptions]
        data = np.concatenate([*flat, np.zeros(0, np.uint8)])
    whole = bytes_from_first(data, sum(lengths))
    told, start = {}, 0
    for (name, entry), (dtype, shape), length in zip(
        descriptions.items(), kinds, lengths, strict=True
    ):
        numbers = whole[start : start + length].copy().view(dtype).reshape(shape)
        told[name], start = Leaf(numbers, entry.get("key_impl")), start + length
    return told


def _bytes_of(numbers: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(numbers).reshape(-1).view(np.uint8)


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path)


def _is_key(leaf: Any) -> bool:
    dtype = getattr(leaf, "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)


def _on_cpu(leaf: jax.Array) -> bool:
    return all(device.platform == "cpu" for device in leaf.devices())


def _copied(name: str, leaf: Any, reuse: np.ndarray | None) -> np.ndarray:
    pieces: list[tuple[Any, np.ndarray]]
    if isinstance(leaf, jax.Array) and (_on_cpu(leaf) or not leaf.is_fully_addressable):
        # A device's own part is seen without a copy; the array as a whole would be put together
        # first, and would keep what was put together.
        shards = leaf.addressable_shards
        chosen = shards[:1] if leaf.is_fully_replicated else shards
        pieces = [(shard.index, np.asarray(shard.data)) for shard in chosen]
    else:
        pieces = [((), np.asarray(leaf))]
    shape, dtype = np.shape(leaf), pieces[0][1].dtype
    if dtype.kind not in _PLAIN or (dtype.kind == "V" and dtype.names is not None):
        raise TreeError(f"leaf {name}: found {type(leaf).__name__} of {dtype}; allowed: numbers")
    fits = reuse is not None and reuse.shape == shape and reuse.dtype == dtype
    whole = reuse if reuse is not None and fits else np.empty(shape, dtype)
    for index, piece in pieces:
        whole[index] = piece
    return whole


def _everywhere(leaf: jax.Array) -> jax.Array:
    sharding = leaf.sharding
    if not isinstance(sharding, NamedSharding):
        raise TreeError(f"an array on devices of several processes: found {sharding}")
    return _replicated(leaf, NamedSharding(sharding.mesh, PartitionSpec()))


@partial(jax.jit, static_argnames="sharding")
def _replicated(leaf: jax.Array, sharding: NamedSharding) -> jax.Array:
    return jax.lax.with_sharding_constraint(leaf, sharding)


def _expected(like: Tree):
    for path, leaf in jax.tree_util.tree_leaves_with_path(like):
        if not hasattr(leaf, "dtype"):
            leaf = np.asarray(leaf)
        yield _name(path), (tuple(leaf.shape), _dtype_name(leaf.dtype))


def _declared(description: Mapping[str, Any]) -> tuple[tuple[int, ...], str]:
    """Shape and dtype that a described leaf has in its tree."""
    shape, impl = tuple(description["shape"]), description.get("key_impl")
    return (shape, description["dtype"]) if impl is None else (shape[:-1], _key_dtype(impl))


def _key_dtype(impl: str) -> str:
    return _dtype_name(jax.eval_shape(partial(jax.random.key, impl=impl), 0).dtype)


def _dtype_name(dtype: Any) -> str:
    return str(dtype) if jnp.issubdtype(dtype, jax.dtypes.extended) else np.dtype(dtype).name


def _spelled(dtype: str, shape: tuple[int, ...]) -> str:
    lengths = ", ".join("any" if length == ANY_LENGTH else str(length) for length in shape)
    return f"{dtype}[{lengths}]"
