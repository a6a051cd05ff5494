"""Trees, keepers and clocks for the tests of checkpoints."""

from pathlib import Path
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fedjax_kd.study.checkpoint import Cadence, Keeper, open_keeper
from fedjax_kd.study.checkpoint_contract import nobody
from fedjax_kd.study.folder import ResultFolder


class Moments(NamedTuple):
    count: Any
    mu: Any


@flax.struct.dataclass
class State:
    clients: Any
    server: Any
    name: str = flax.struct.field(pytree_node=False, default="static")


def odd_tree() -> State:
    """Every kind of leaf and node that states have, and names that are hard to keep."""
    mesh = Mesh(np.asarray(jax.devices()[:2]), ("clients",))
    by_column = NamedSharding(mesh, PartitionSpec(None, "clients"))
    rows = jnp.arange(24, dtype=jnp.float32).reshape(4, 6)
    return State(
        clients={
            "a/b": jax.device_put(rows, NamedSharding(mesh, PartitionSpec("clients"))),
            "a": {"b": jax.device_put(rows + 1, NamedSharding(mesh, PartitionSpec()))},
            "'ü\"]": jax.device_put(rows.T + 2, by_column),
            "half": jnp.asarray([1.5, -2.25, jnp.nan], jnp.bfloat16),
            "empty": jnp.zeros((0, 3), jnp.bfloat16),
            "moments": Moments(jnp.int32(7), (jnp.asarray([jnp.inf, -0.0]), None, ())),
        },
        server=[
            jax.random.key(3),
            jax.random.split(jax.random.key(4, impl="rbg"), 5),
            np.asarray([True, False]),
            np.float64(0.1),
            np.arange(3, dtype=np.uint8)[::-1],
            {},
            11,
        ],
    )


def shapes(tree: Any) -> Any:
    def shape(leaf):
        leaf = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)

    return jax.tree.map(shape, tree)


def bits(tree: Any) -> list[tuple]:
    """What must be equal of equal trees: structure, kinds, shapes and bytes."""

    def plain(leaf):
        if hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return (str(leaf.dtype), leaf.shape, np.asarray(jax.random.key_data(leaf)).tobytes())
        array = np.asarray(leaf)
        return (array.dtype.name, array.shape, array.tobytes())

    return [jax.tree.structure(tree), *(plain(leaf) for leaf in jax.tree.leaves(tree))]


class Clock:
    """A clock that only goes on when it is told to."""

    def __init__(self):
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def opened(
    path: Path,
    cadence: Cadence = Cadence(every_rounds=1, every_minutes=None),  # noqa: B008
    *,
    notes: list[str] | None = None,
    clock: Clock | None = None,
    requested: Any = nobody,
    **about: Any,
) -> Keeper:
    said: list[str] = [] if notes is None else notes
    known = {"settings_hash": "abc", "form": "vmap", "points": 1, **about}
    folder = ResultFolder(path, "new")
    return open_keeper(
        folder,
        cadence,
        note=said.append,
        clock=clock or Clock(),
        requested=requested,
        **known,
    )


def small(step: int) -> dict[str, Any]:
    """A state that says which step it is of."""
    return {"w": np.arange(1000, dtype=np.float32) + step, "n": np.int32(step)}


def filled(path: Path, steps: int = 3, total: int = 9, keep: int = 2, part: str = "p") -> None:
    """Saves a part after each of its first steps."""
    keeper = opened(path, Cadence(every_rounds=1, every_minutes=None, keep=keep))
    saved = keeper.part(part, total)
    for step in range(1, steps + 1):
        saved.offer(step, lambda: small(step))  # noqa: B023
        keeper.part("waits for the one before", 1)
    keeper.close()
