"""What padding costs: examples that are computed on, against examples that clients hold.

A client's last batch is filled up with masked examples, and clients that are run together wait for
the largest of them. The ratio of executed to useful work is reported by every run, so that waste is
seen and not guessed.
"""

import jax
import jax.numpy as jnp

from fedjax_kd.training.client_loop import active_first
from fedjax_kd.training.execution import Execution


def executed_examples(
    counts: jax.Array, active: jax.Array, batch_size: int, execution: Execution
) -> jax.Array:
    """Examples per epoch that local training computes on, padding and waiting included.

    Args:
        counts: int32 [K], examples of each client.
        active: bool [K], who takes part.
        batch_size: examples per step.
        execution: how the client axis is run; mirrors `run_clients` with `work=counts`.

    Returns:
        float32 [K]. What a client waits for others is counted as its own; under `vmap` clients that
        do not take part are run as well, and their results dropped.
    """
    padded = _whole_batches(counts, batch_size)
    n_clients = counts.shape[0]
    missing = -n_clients % execution.n_devices

    def per_device(padded, active):
        if execution.form == "vmap":
            return jnp.full(padded.shape, jnp.max(padded))
        if execution.form == "sequential":
            return jnp.where(active, padded, 0)
        order = active_first(active, padded)
        extra = -order.shape[0] % execution.width
        sizes = jnp.pad(jnp.where(active, padded, 0)[order], (0, extra))
        largest = sizes.reshape(-1, execution.width)[:, :1]  # sorted: the first of a chunk
        spent = jnp.repeat(largest, execution.width, axis=1).reshape(-1)
        # What places of a last chunk without a client cost is put on its largest member.
        spare = jnp.arange(spent.shape[0]) >= order.shape[0]
        bill = jnp.sum(jnp.where(spare, spent, 0))
        holder = (order.shape[0] - 1) // execution.width * execution.width
        spent = spent[: order.shape[0]].at[holder].add(bill)
        return jnp.zeros_like(padded).at[order].set(spent)

    blocks = jnp.pad(padded, (0, missing)).reshape(execution.n_devices, -1)
    taking_part = jnp.pad(active, (0, missing)).reshape(execution.n_devices, -1)
    executed = jax.vmap(per_device)(blocks, taking_part).reshape(-1)
    beyond = jnp.sum(executed[n_clients:])  # clients that fill up the last device's block
    return executed[:n_clients].at[-1].add(beyond).astype(jnp.float32)


def _whole_batches(counts: jax.Array, batch_size: int) -> jax.Array:
    return (counts + batch_size - 1) // batch_size * batch_size
