"""How the client axis of a stack is executed: the one place that knows.

Callers write what ONE client does. Two forms run it for all of them:

* `sequential`: a loop inside the compiled program over the clients that take part, each client's
  part of the stacked state read, worked on and written back in place. On a CPU one client's weights
  then stay in cache over all its local steps, convolutions keep their fast form (vmap would turn
  them into grouped ones), memory does not grow with the number of clients, and clients that do not
  take part cost nothing.
* `vmap`: all clients at once, the form for accelerators.

Either form is divided over the devices of a mesh with `shard_map`, each device taking a contiguous
block of clients. The stack is padded so that the blocks are equal; padding never takes part.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

CLIENTS = "clients"
Tree = Any


class Execution(NamedTuple):
    """Static choice of how clients are run.

    Attributes:
        form: `sequential` or `vmap`.
        devices: the devices that share the clients, in order; one device means no sharding.
    """

    form: Literal["sequential", "vmap"]
    devices: tuple[Any, ...]

    @property
    def n_devices(self) -> int:
        """Number of blocks that the client axis is cut into."""
        return len(self.devices)


def default_execution(n_devices: int | None = None) -> Execution:
    """All local devices (or the first `n_devices`); sequential on a CPU, vmap elsewhere.

    Raises:
        ValueError: if there are fewer devices than asked for.
    """
    devices = jax.local_devices()
    if n_devices is not None and not 1 <= n_devices <= len(devices):
        raise ValueError(f"devices = {n_devices}: this process has {len(devices)}")
    chosen = tuple(devices if n_devices is None else devices[:n_devices])
    return Execution("sequential" if chosen[0].platform == "cpu" else "vmap", chosen)


def mesh_of(execution: Execution) -> Mesh:
    """The devices as one axis, `clients`."""
    return Mesh(np.asarray(execution.devices), (CLIENTS,))


def everywhere(tree: Tree, execution: Execution) -> Tree:
    """Puts a whole copy of the tree on every device, once, for programs that all share it."""
    return jax.device_put(tree, NamedSharding(mesh_of(execution), PartitionSpec()))


def settled(tree: Tree, execution: Execution, *, stacked: bool) -> Tree:
    """Fixes where a traced tree lives, so that a program's result can be its next input.

    Without it the first call of a loop sees its state where it was made and the second sees it
    where the first left it, and each place compiles a program of its own.

    Args:
        tree: traced arrays.
        execution: how clients are run.
        stacked: whether the arrays have a leading client axis; it is cut into one block per device
            if that is possible without padding.

    Returns:
        The same values.
    """

    def place(leaf):
        even = stacked and leaf.shape[0] % execution.n_devices == 0
        spec = PartitionSpec(CLIENTS) if even else PartitionSpec()
        return jax.lax.with_sharding_constraint(leaf, NamedSharding(mesh_of(execution), spec))

    return jax.tree.map(place, tree)


def run_clients(
    one_client: Callable[[Tree, Tree, Tree], tuple[Tree, Tree]],
    state: Tree,
    inputs: Tree,
    shared: Tree,
    active: jax.Array,
    execution: Execution,
) -> tuple[Tree, Tree]:
    """Runs `one_client(state_k, inputs_k, shared) -> (state_k, outputs_k)` for the active clients.

    Args:
        one_client: a pure function of one client; its state keeps its shapes and dtypes.
        state: pytree of arrays [K, ...]; rows of inactive clients come back bit for bit as they
            went in.
        inputs: pytree of arrays [K, ...].
        shared: pytree that every client sees whole.
        active: bool [K].
        execution: how.

    Returns:
        The new state, and the stacked outputs [K, ...] with zeros for inactive clients.
    """
    run = _FORMS[execution.form]
    if execution.n_devices == 1:
        return run(one_client, state, inputs, shared, active)
    n_clients = active.shape[0]
    padded = partial(_pad, multiple=execution.n_devices)
    mesh = mesh_of(execution)
    split, whole = PartitionSpec(CLIENTS), PartitionSpec()
    sharded = jax.shard_map(
        partial(run, one_client),
        mesh=mesh,
        in_specs=(split, split, whole, split),
        out_specs=(split, split),
        check_vma=False,
    )
    results = sharded(padded(state), padded(inputs), shared, padded(active))
    return jax.tree.map(lambda leaf: leaf[:n_clients], results)


def sum_over_clients(
    one_client: Callable[[Tree, Tree], tuple[Tree, Tree]],
    inputs: Tree,
    shared: Tree,
    server: jax.Array,
    active: jax.Array,
    n_servers: int,
    execution: Execution,
) -> tuple[Tree, Tree]:
    """Adds up what the active clients send to their servers, without storing it per client.

    Args:
        one_client: `(inputs_k, shared) -> (message, outputs_k)`; the message is a pytree to be
            summed.
        inputs: pytree of arrays [K, ...].
        shared: pytree that every client sees whole.
        server: int32 [K], which server each client sends to.
        active: bool [K].
        n_servers: S, static.
        execution: how.

    Returns:
        The sums, a pytree of arrays [S, ...], and the outputs [K, ...], zeros for inactive clients.
    """
    if execution.n_devices == 1:
        return _sum_block(one_client, n_servers, execution.form, inputs, shared, server, active)
    n_clients = active.shape[0]
    padded = partial(_pad, multiple=execution.n_devices)
    mesh = mesh_of(execution)
    split, whole = PartitionSpec(CLIENTS), PartitionSpec()

    def block(inputs, shared, server, active):
        sums, outputs = _sum_block(
            one_client, n_servers, execution.form, inputs, shared, server, active
        )
        return jax.lax.psum(sums, CLIENTS), outputs

    sharded = jax.shard_map(
        block,
        mesh=mesh,
        in_specs=(split, whole, split, split),
        out_specs=(whole, split),
        check_vma=False,
    )
    sums, outputs = sharded(padded(inputs), shared, padded(server), padded(active))
    return sums, jax.tree.map(lambda leaf: leaf[:n_clients], outputs)


def _run_sequential(one_client, state, inputs, shared, active):
    _, outputs = jax.eval_shape(one_client, _row(state, 0), _row(inputs, 0), shared)
    blank = jax.tree.map(lambda leaf: jnp.zeros(active.shape + leaf.shape, leaf.dtype), outputs)
    order = _active_first(active)

    def body(i, carry):
        state, outputs = carry
        k = order[i]
        new_state, new_outputs = one_client(_row(state, k), _row(inputs, k), shared)
        return _set_row(state, k, new_state), _set_row(outputs, k, new_outputs)

    return jax.lax.fori_loop(0, _count(active), body, (state, blank))


def _run_vmap(one_client, state, inputs, shared, active):
    new_state, outputs = jax.vmap(one_client, in_axes=(0, 0, None))(state, inputs, shared)
    zeros = jax.tree.map(jnp.zeros_like, outputs)
    return _where(active, new_state, state), _where(active, outputs, zeros)


_FORMS = {"sequential": _run_sequential, "vmap": _run_vmap}


def _sum_block(one_client, n_servers, form, inputs, shared, server, active):
    message, outputs = jax.eval_shape(one_client, _row(inputs, 0), shared)
    sums = jax.tree.map(lambda leaf: jnp.zeros((n_servers, *leaf.shape), leaf.dtype), message)
    if form == "vmap":
        messages, outputs = jax.vmap(one_client, in_axes=(0, None))(inputs, shared)
        messages = _where(active, messages, jax.tree.map(jnp.zeros_like, messages))
        outputs = _where(active, outputs, jax.tree.map(jnp.zeros_like, outputs))
        sums = jax.tree.map(lambda zero, leaf: zero.at[server].add(leaf), sums, messages)
        return sums, outputs
    blank = jax.tree.map(lambda leaf: jnp.zeros(active.shape + leaf.shape, leaf.dtype), outputs)
    order = _active_first(active)

    def body(i, carry):
        sums, outputs = carry
        k = order[i]
        message, new_outputs = one_client(_row(inputs, k), shared)
        sums = jax.tree.map(lambda total, leaf: total.at[server[k]].add(leaf), sums, message)
        return sums, _set_row(outputs, k, new_outputs)

    return jax.lax.fori_loop(0, _count(active), body, (sums, blank))


def _active_first(active: jax.Array) -> jax.Array:
    return jnp.argsort(jnp.logical_not(active), stable=True)


def _count(active: jax.Array) -> jax.Array:
    return jnp.sum(active, dtype=jnp.int32)


def _row(tree: Tree, k) -> Tree:
    return jax.tree.map(lambda leaf: leaf[k], tree)


def _set_row(tree: Tree, k, row: Tree) -> Tree:
    return jax.tree.map(lambda leaf, new: leaf.at[k].set(new), tree, row)


def _where(active: jax.Array, chosen: Tree, other: Tree) -> Tree:
    def select(a, b):
        return jnp.where(active.reshape(active.shape + (1,) * (a.ndim - 1)), a, b)

    return jax.tree.map(select, chosen, other)


def _pad(tree: Tree, multiple: int) -> Tree:
    """Repeats the last row until the length is a multiple; padded `active` rows are False."""

    def pad(leaf):
        missing = -leaf.shape[0] % multiple
        if missing == 0:
            return leaf
        if leaf.dtype == jnp.bool_:
            tail = jnp.zeros((missing, *leaf.shape[1:]), leaf.dtype)
        else:
            tail = jnp.repeat(leaf[-1:], missing, axis=0)
        return jnp.concatenate([leaf, tail])

    return jax.tree.map(pad, tree)
