"""How the client axis of a stack is executed: the one place that knows.

Callers write what ONE client does. Three forms run it for all of them:

* `sequential`: a loop inside the compiled program over the clients that take part, each client's
  part of the stacked state read, worked on and written back in place. On a CPU one client's weights
  then stay in cache over all its local steps, convolutions keep their fast form (vmap would turn
  them into grouped ones), memory does not grow with the number of clients, and each client costs
  what its own data costs.
* `vmap`: all clients at once. Everyone runs for as long as the largest client.
* `chunked`: `width` clients at once, the largest clients first, so that a chunk's clients are of
  about one size and little is spent on waiting; chunks without a participant are not run. The form
  for accelerators with many or uneven clients.

Each form is divided over the devices of a mesh with `shard_map`, each device taking a contiguous
block of clients. The stack is padded so that the blocks are equal; padding never takes part.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from fedjax_kd.training.execution import CLIENTS, STUDY, Execution, Tree, mesh_of

BLOCKS, WHOLE = PartitionSpec((STUDY, CLIENTS)), PartitionSpec()


def run_and_sum(
    one_client: Callable[[Tree, Tree, Tree, Tree], tuple[Tree, Tree, Tree]],
    state: Tree,
    inputs: Tree,
    servers: Tree,
    shared: Tree,
    server: jax.Array,
    active: jax.Array,
    execution: Execution,
    *,
    work: jax.Array | None = None,
) -> tuple[Tree, Tree, Tree]:
    """Runs the active clients and adds up what they send, without storing it per client.

    Args:
        one_client: `(state_k, inputs_k, server_k, shared) -> (state_k, message, outputs)`, a pure
            function of one client; its state keeps its shapes and dtypes, and the message is a
            pytree to be summed over the clients of a server. Any of them may be `()`.
        state: pytree of arrays [K, ...]; rows of inactive clients come back bit for bit as they
            went in.
        inputs: pytree of arrays [K, ...].
        servers: pytree of arrays [S, ...]; a client sees the row of its server.
        shared: pytree that every client sees whole.
        server: int32 [K], which server each client sends to, in ascending order, each server with
            as many clients as any other.
        active: bool [K].
        execution: how; with several study rows, each handles its own servers and no others.
        work: int32 [K], what each client's cost grows with (its examples); `chunked` puts clients
            of about one size together. Without it they are taken in order.

    Returns:
        The new state [K, ...], the sums, a pytree of arrays [S, ...], and the outputs [K, ...],
        zeros for inactive clients.
    """
    n_clients = active.shape[0]
    n_servers = _length(servers, 1)
    work = jnp.zeros(n_clients, jnp.int32) if work is None else work
    rows, local_servers = 1, n_servers
    if n_servers % execution.study_rows == 0 and n_clients % execution.study_rows == 0:
        rows, local_servers = execution.study_rows, n_servers // execution.study_rows
    run = partial(_run_block, one_client, local_servers, execution)
    if execution.n_devices == 1:
        return run(state, inputs, servers, shared, server, active, work)
    # Every row of the mesh gets the clients of its own servers, padded to one block per device.
    per_row, columns = n_clients // rows, execution.n_devices // rows
    padded = partial(_pad_rows, rows=rows, multiple=columns)
    split = PartitionSpec(STUDY) if rows > 1 else WHOLE
    summed_along = CLIENTS if rows > 1 else (STUDY, CLIENTS)

    def block(state, inputs, servers, shared, server, active, work):
        first = jax.lax.axis_index(STUDY) * local_servers if rows > 1 else jnp.int32(0)
        state, sums, outputs = run(state, inputs, servers, shared, server - first, active, work)
        return state, jax.lax.psum(sums, summed_along), outputs

    sharded = jax.shard_map(
        block,
        mesh=mesh_of(execution),
        in_specs=(BLOCKS, BLOCKS, split, WHOLE, BLOCKS, BLOCKS, BLOCKS),
        out_specs=(BLOCKS, split, BLOCKS),
        check_vma=False,
    )
    state, sums, outputs = sharded(
        padded(state),
        padded(inputs),
        servers,
        shared,
        padded(server),
        padded(active),
        padded(work),
    )
    unpadded = partial(_unpad_rows, rows=rows, per_row=per_row)
    return unpadded(state), sums, unpadded(outputs)


def run_clients(
    one_client: Callable[[Tree, Tree, Tree], tuple[Tree, Tree]],
    state: Tree,
    inputs: Tree,
    shared: Tree,
    active: jax.Array,
    execution: Execution,
    *,
    work: jax.Array | None = None,
) -> tuple[Tree, Tree]:
    """`run_and_sum` of clients that send nothing and so may stand in any order.

    Args:
        one_client: `(state_k, inputs_k, shared) -> (state_k, outputs_k)`.
        state: as for `run_and_sum`, and so the others.
        inputs: pytree of arrays [K, ...].
        shared: pytree that every client sees whole.
        active: bool [K].
        execution: how.
        work: int32 [K].

    Returns:
        The new state, and the stacked outputs [K, ...] with zeros for inactive clients.
    """

    def without_server(state, inputs, server, shared):
        del server
        state, outputs = one_client(state, inputs, shared)
        return state, (), outputs

    nowhere = jnp.zeros(active.shape, jnp.int32)
    new_state, _, outputs = run_and_sum(
        without_server, state, inputs, (), shared, nowhere, active, execution, work=work
    )
    return new_state, outputs


def sum_over_clients(
    one_client: Callable[[Tree, Tree, Tree], tuple[Tree, Tree]],
    inputs: Tree,
    servers: Tree,
    shared: Tree,
    server: jax.Array,
    active: jax.Array,
    execution: Execution,
    *,
    work: jax.Array | None = None,
) -> tuple[Tree, Tree]:
    """`run_and_sum` of clients that keep nothing.

    Args:
        one_client: `(inputs_k, server_k, shared) -> (message, outputs_k)`.
        inputs: as for `run_and_sum`, and so the others.
        servers: pytree of arrays [S, ...].
        shared: pytree that every client sees whole.
        server: int32 [K].
        active: bool [K].
        execution: how.
        work: int32 [K].

    Returns:
        The sums [S, ...], and the outputs [K, ...], zeros for inactive clients.
    """

    def without_state(state, inputs, server, shared):
        return state, *one_client(inputs, server, shared)

    _, sums, outputs = run_and_sum(
        without_state, (), inputs, servers, shared, server, active, execution, work=work
    )
    return sums, outputs


def _run_block(
    one_client, n_servers, execution, state, inputs, servers, shared, server, active, work
):
    """What one device does: all of its clients, and the sums over them."""
    rows = _row(state, 0), _row(inputs, 0), _row(servers, 0)
    _, message, outputs = jax.eval_shape(one_client, *rows, shared)
    sums = _stacked_zeros(message, (n_servers,))
    run = jax.vmap(one_client, in_axes=(0, 0, 0, None))
    if execution.form == "vmap":
        new_state, messages, outputs = run(state, inputs, _row(servers, server), shared)
        zeros = jax.tree.map(jnp.zeros_like, outputs)
        sums = _add_live(sums, server, active, messages)
        return _where(active, new_state, state), sums, _where(active, outputs, zeros)
    blank = _stacked_zeros(outputs, active.shape)
    if execution.form == "sequential":
        order = active_first(active)

        def one(i, carry):
            state, sums, outputs = carry
            k = order[i]
            theirs = server[k]
            new_state, message, new_outputs = one_client(
                _row(state, k), _row(inputs, k), _row(servers, theirs), shared
            )
            sums = jax.tree.map(lambda total, leaf: total.at[theirs].add(leaf), sums, message)
            return _set_row(state, k, new_state), sums, _set_row(outputs, k, new_outputs)

        return jax.lax.fori_loop(0, _count(active), one, (state, sums, blank))

    chunks = _chunks(active, work, execution.width)

    def chunk(i, carry):
        state, sums, outputs = carry
        members, live = _chunk(chunks, i, execution.width)
        theirs = server[members]
        new_state, messages, new_outputs = run(
            _row(state, members), _row(inputs, members), _row(servers, theirs), shared
        )
        absent = jnp.where(live, members, active.shape[0])  # out of range: dropped
        return (
            _put_rows(state, absent, new_state),
            _add_live(sums, theirs, live, messages),
            _put_rows(outputs, absent, new_outputs),
        )

    n_chunks = (_count(active) + execution.width - 1) // execution.width
    return jax.lax.fori_loop(0, n_chunks, chunk, (state, sums, blank))


def active_first(active: jax.Array, work: jax.Array | None = None) -> jax.Array:
    """The order in which clients are run: those that take part, the largest first.

    Args:
        active: bool [K].
        work: int32 [K], sizes; None keeps the given order.

    Returns:
        int32 [K], a permutation.
    """
    if work is None:
        return jnp.argsort(jnp.logical_not(active), stable=True)
    return jnp.argsort(jnp.where(active, -work, 1), stable=True)


def _chunks(active, work, width):
    """The clients in running order, filled to whole chunks, and which places hold participants.

    Other places run the last participant once more, the smallest: a chunk runs as long as its
    largest client, so nobody who is larger may fill it.
    """
    order = jnp.pad(active_first(active, work), (0, -active.shape[0] % width))
    count = _count(active)
    live = jnp.arange(order.shape[0]) < count
    return jnp.where(live, order, order[jnp.maximum(count - 1, 0)]), live


def _chunk(chunks, i, width):
    return tuple(jax.lax.dynamic_slice(part, (i * width,), (width,)) for part in chunks)


def _count(active: jax.Array) -> jax.Array:
    return jnp.sum(active, dtype=jnp.int32)


def _stacked_zeros(shapes: Tree, lead: tuple[int, ...]) -> Tree:
    return jax.tree.map(lambda leaf: jnp.zeros((*lead, *leaf.shape), leaf.dtype), shapes)


def _row(tree: Tree, k) -> Tree:
    return jax.tree.map(lambda leaf: leaf[k], tree)


def _set_row(tree: Tree, k, row: Tree) -> Tree:
    return jax.tree.map(lambda leaf, new: leaf.at[k].set(new), tree, row)


def _put_rows(tree: Tree, members, rows: Tree) -> Tree:
    return jax.tree.map(lambda leaf, new: leaf.at[members].set(new, mode="drop"), tree, rows)


def _add_live(sums: Tree, server, live, messages: Tree) -> Tree:
    messages = _where(live, messages, jax.tree.map(jnp.zeros_like, messages))
    return jax.tree.map(lambda total, leaf: total.at[server].add(leaf), sums, messages)


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


def _pad_rows(tree: Tree, rows: int, multiple: int) -> Tree:
    """As `_pad`, for each of `rows` equal parts of the axis."""
    if rows == 1:
        return _pad(tree, multiple)

    def pad(leaf):
        parts = leaf.reshape(rows, -1, *leaf.shape[1:])
        parts = jax.vmap(lambda part: _pad(part, multiple))(parts)
        return parts.reshape(-1, *leaf.shape[1:])

    return jax.tree.map(pad, tree)


def _unpad_rows(tree: Tree, rows: int, per_row: int) -> Tree:
    def unpad(leaf):
        parts = leaf.reshape(rows, -1, *leaf.shape[1:])
        return parts[:, :per_row].reshape(-1, *leaf.shape[1:])

    return jax.tree.map(unpad, tree)


def _length(tree: Tree, otherwise: int) -> int:
    """Rows of a stack, or another number where the tree has no leaves."""
    leaves = jax.tree.leaves(tree)
    return leaves[0].shape[0] if leaves else otherwise
