"""What one client does in a round: some epochs of stochastic gradient descent on its own rows."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from fedjax_kd.kernels.native import use_native
from fedjax_kd.training.optimiser import Sgd, plain_step

Variables = dict[str, Any]
BatchLoss = Callable[[Any, Any, jax.Array, jax.Array], tuple[jax.Array, Any]]


def epoch_order(key: jax.Array, count: jax.Array, capacity: int, batch_size: int) -> jax.Array:
    """A random order of the positions 0..count-1 of a row, padded to whole batches.

    Args:
        key: typed key.
        count: int32 scalar, number of valid positions, at most `capacity`.
        capacity: length of the row, static.
        batch_size: static.

    Returns:
        int32 [ceil(capacity / batch_size) * batch_size]: the valid positions in random order, then
        the others.
    """
    draws = jax.random.uniform(key, (capacity,))
    order = jnp.argsort(jnp.where(jnp.arange(capacity) < count, draws, 2.0))
    return jnp.pad(order.astype(jnp.int32), (0, -capacity % batch_size))


def local_update(
    key: jax.Array,
    variables: Variables,
    count: jax.Array,
    batch_loss: BatchLoss,
    optimiser: optax.GradientTransformation | Sgd,
    *,
    capacity: int,
    epochs: int,
    batch_size: int,
) -> tuple[Variables, jax.Array]:
    """Trains one client's model on its own rows, from a fresh optimiser state.

    Every epoch visits each of the client's examples once in a new random order. The last batch of
    an epoch may be short: it is masked, not dropped, and its mean is over the examples it has. The
    number of steps follows `count`, so a small client costs little even beside a large one.

    Args:
        key: the client's key for this round.
        variables: `{"params": ..., "stats": ...}` of one model.
        count: int32 scalar, examples in the client's row; with 0 nothing changes.
        batch_loss: `(params, stats, positions [B], mask [B]) -> (loss, stats)` with positions into
            the client's row.
        optimiser: `sgd(rates)` or any optax transformation. Plain SGD updates the weights of dense
            layers while it computes their gradients, where the loss allows it.
        capacity: length of the (padded) row, static.
        epochs: static.
        batch_size: static.

    Returns:
        The trained variables and the mean loss per step over the last epoch (0 without examples).
    """
    steps = (count + batch_size - 1) // batch_size
    one_step = _step(batch_loss, optimiser)

    def epoch(index, carry):
        order = epoch_order(jax.random.fold_in(key, index), count, capacity, batch_size)

        def step(index, carry):
            params, stats, momentum, total = carry
            start = index * batch_size
            positions = jax.lax.dynamic_slice(order, (start,), (batch_size,))
            mask = start + jnp.arange(batch_size) < count
            params, stats, momentum, loss = one_step(params, stats, momentum, positions, mask)
            return params, stats, momentum, total + loss

        params, stats, momentum, _ = carry
        return jax.lax.fori_loop(0, steps, step, (params, stats, momentum, jnp.float32(0)))

    params, stats = variables["params"], variables["stats"]
    start = (params, stats, optimiser.init(params), jnp.float32(0))
    params, stats, _, total = jax.lax.fori_loop(0, epochs, epoch, start)
    return {"params": params, "stats": stats}, total / jnp.maximum(steps, 1).astype(jnp.float32)


def _step(batch_loss: BatchLoss, optimiser: optax.GradientTransformation | Sgd):
    """`(params, stats, momentum, positions, mask) -> (params, stats, momentum, loss)`."""
    gradient = jax.value_and_grad(batch_loss, has_aux=True)

    def ordinary(params, stats, momentum, positions, mask):
        (loss, stats), grads = gradient(params, stats, positions, mask)
        updates, momentum = optimiser.update(grads, momentum, params)
        return optax.apply_updates(params, updates), stats, momentum, loss

    if not (isinstance(optimiser, Sgd) and optimiser.plain and use_native()):
        return ordinary
    in_place = plain_step(batch_loss, optimiser.rates)

    def step(params, stats, momentum, positions, mask):
        params, stats, loss = in_place(params, stats, positions, mask)
        return params, stats, momentum, loss

    return step
