"""How a stack of clients is executed, as a static choice, and where its arrays live.

The devices form a mesh of two axes, `study` and `clients`. Clients are ordered study point by study
point, so cutting the client axis into equal blocks along both mesh axes gives every row of the mesh
whole points: points never talk to each other, and only what clients send to their server is summed,
along `clients` alone.
"""

from functools import partial
from math import gcd
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

STUDY, CLIENTS = "study", "clients"
FORMS = ("sequential", "vmap", "chunked")
DEFAULT_WIDTH = 8
Form = Literal["sequential", "vmap", "chunked"]
Tree = Any


class Execution(NamedTuple):
    """Static choice of how clients are run; hashable, so that it may be a static argument.

    Attributes:
        form: `sequential`, `vmap` or `chunked`, see `fedjax_kd.training.client_loop`.
        devices: the devices that share the clients, in order; one device means no sharding.
        width: clients at a time of the form `chunked`; the other forms ignore it.
        study_rows: rows of the mesh, which divides the number of devices; 1 unless points of a
            study are kept apart, see `for_points`.
    """

    form: Form
    devices: tuple[Any, ...]
    width: int = DEFAULT_WIDTH
    study_rows: int = 1

    @property
    def n_devices(self) -> int:
        """Number of blocks that the client axis is cut into."""
        return len(self.devices)

    @property
    def label(self) -> str:
        """The form as a user writes it: `sequential`, `vmap` or `chunked:8`."""
        return f"chunked:{self.width}" if self.form == "chunked" else self.form


def default_execution(n_devices: int | None = None) -> Execution:
    """All devices of all processes (or the first `n_devices`); sequential on a CPU, vmap elsewhere.

    Raises:
        ValueError: if there are fewer devices than asked for.
    """
    devices = jax.devices()
    if n_devices is not None and not 1 <= n_devices <= len(devices):
        raise ValueError(f"devices = {n_devices}: found {len(devices)}; allowed: 1 to that")
    chosen = tuple(devices if n_devices is None else devices[:n_devices])
    if len({device.process_index for device in chosen}) < jax.process_count():
        raise ValueError(
            f"devices = {n_devices}: leaves out some of the {jax.process_count()} processes; "
            "allowed: none, for all devices"
        )
    return Execution("sequential" if chosen[0].platform == "cpu" else "vmap", chosen)


def parse_form(text: str) -> tuple[Form, int]:
    """Reads `sequential`, `vmap`, `chunked` or `chunked:WIDTH`.

    Raises:
        ValueError: naming what was found and what is allowed.
    """
    name, _, width = text.partition(":")
    if name == "chunked" and (not width or (width.isdecimal() and int(width) > 0)):
        return "chunked", int(width or DEFAULT_WIDTH)
    if name == "sequential" and text == name:
        return "sequential", DEFAULT_WIDTH
    if name == "vmap" and text == name:
        return "vmap", DEFAULT_WIDTH
    raise ValueError(
        f"execution: found {text!r}; allowed: auto, sequential, vmap, chunked or chunked:WIDTH"
    )


def for_points(execution: Execution, n_points: int) -> Execution:
    """The same choice with as many rows of the mesh as divide both the devices and the points."""
    return execution._replace(study_rows=gcd(execution.n_devices, n_points))


def mesh_of(execution: Execution) -> Mesh:
    """The devices as a grid, [study rows, devices per row]."""
    grid = np.asarray(execution.devices).reshape(execution.study_rows, -1)
    return Mesh(grid, (STUDY, CLIENTS))


def everywhere(tree: Tree, execution: Execution) -> Tree:
    """Puts a whole copy of the tree on every device, once, for programs that all share it.

    With several processes each must hold the same values, which the caller sees to.

    Args:
        tree: arrays and typed keys, on the host or on a device of this process.
        execution: the devices.

    Returns:
        The same values.
    """
    whole = NamedSharding(mesh_of(execution), PartitionSpec())
    if whole.is_fully_addressable:
        return jax.device_put(tree, whole)
    return jax.tree.map(lambda leaf: _copied(leaf, whole, execution), tree)


def _copied(leaf: Any, whole: NamedSharding, execution: Execution) -> jax.Array:
    """One array on all devices of all processes, each process sending to its own devices."""
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        return _settled_whole(leaf, execution)
    if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        data = _copied(jax.random.key_data(leaf), whole, execution)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    held = np.asarray(leaf)
    return jax.make_array_from_callback(held.shape, whole, lambda index: held[index])


def on_host(tree: Tree, execution: Execution) -> Tree:
    """Brings arrays of a program that all processes run to the host of each, as NumPy arrays.

    With several processes it is part of the program: all of them must call it, on the same arrays.

    Args:
        tree: arrays, of which parts may be on devices of other processes; no typed keys.
        execution: the devices that the arrays live on, if they live on more than one process's.

    Returns:
        The whole of every array.
    """

    def read(leaf):
        if isinstance(leaf, jax.Array) and not (
            leaf.is_fully_addressable or leaf.is_fully_replicated
        ):
            leaf = _settled_whole(leaf, execution)
        return np.asarray(leaf)

    return jax.tree.map(read, tree)


def spec_of(axis: Literal["clients", "study"] | None, execution: Execution, length: int):
    """How a leading axis of this length is cut: one block per device or row, or not at all."""
    if axis == "clients" and length % execution.n_devices == 0:
        return PartitionSpec((STUDY, CLIENTS))
    if axis == "study" and length % execution.study_rows == 0:
        return PartitionSpec(STUDY)
    return PartitionSpec()


def settled(
    tree: Tree, execution: Execution, *, axis: Literal["clients", "study"] | None = None
) -> Tree:
    """Fixes where a traced tree lives, so that a program's result can be its next input.

    Without it the first call of a loop sees its state where it was made and the second sees it
    where the first left it, and each place compiles a program of its own.

    Args:
        tree: traced arrays.
        execution: how clients are run.
        axis: what the leading axis counts: `clients` is cut into one block per device, `study` into
            one per row of the mesh, where that is possible without padding; None is whole.

    Returns:
        The same values.
    """
    mesh = mesh_of(execution)

    def place(leaf):
        spec = spec_of(axis, execution, leaf.shape[0] if leaf.ndim else 1)
        return jax.lax.with_sharding_constraint(leaf, NamedSharding(mesh, spec))

    return jax.tree.map(place, tree)


@partial(jax.jit, static_argnames="execution")
def _settled_whole(tree: Tree, execution: Execution) -> Tree:
    return settled(tree, execution)
