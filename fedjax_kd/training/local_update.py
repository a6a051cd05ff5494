"""What one client does in a round: some epochs of stochastic gradient descent on its own rows."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

Variables = dict[str, Any]
BatchLoss = Callable[[Any, Any, jax.Array, jax.Array], tuple[jax.Array, Any]]


@struct.dataclass
class Rates:
    """Traced numbers of the optimiser; a sweep over them is one program.

    Attributes:
        learning_rate: step size, > 0.
        momentum: heavy-ball momentum in [0, 1).
        weight_decay: added to the gradient as `weight_decay * parameter`.
        gradient_clip: largest global norm of a gradient; infinity clips nothing.
    """

    learning_rate: jax.Array
    momentum: jax.Array
    weight_decay: jax.Array
    gradient_clip: jax.Array


def rates(
    learning_rate: float,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    gradient_clip: float = 0.0,
) -> Rates:
    """The rates as float32 scalars; a `gradient_clip` of 0 means none."""
    clip = gradient_clip if gradient_clip > 0 else jnp.inf
    return Rates(*(jnp.float32(value) for value in (learning_rate, momentum, weight_decay, clip)))


def sgd(values: Rates) -> optax.GradientTransformation:
    """SGD with momentum, weight decay and clipping, all of them traced numbers."""
    return optax.chain(
        optax.clip_by_global_norm(values.gradient_clip),
        optax.add_decayed_weights(values.weight_decay),
        optax.sgd(values.learning_rate, momentum=values.momentum),
    )


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
    optimiser: optax.GradientTransformation,
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
        optimiser: an optax transformation.
        capacity: length of the (padded) row, static.
        epochs: static.
        batch_size: static.

    Returns:
        The trained variables and the mean loss per step over the last epoch (0 without examples).
    """
    steps = (count + batch_size - 1) // batch_size
    gradient = jax.value_and_grad(batch_loss, has_aux=True)

    def epoch(index, carry):
        order = epoch_order(jax.random.fold_in(key, index), count, capacity, batch_size)

        def step(index, carry):
            params, stats, momentum, total = carry
            start = index * batch_size
            positions = jax.lax.dynamic_slice(order, (start,), (batch_size,))
            mask = start + jnp.arange(batch_size) < count
            (loss, stats), grads = gradient(params, stats, positions, mask)
            updates, momentum = optimiser.update(grads, momentum, params)
            return optax.apply_updates(params, updates), stats, momentum, total + loss

        params, stats, momentum, _ = carry
        return jax.lax.fori_loop(0, steps, step, (params, stats, momentum, jnp.float32(0)))

    params, stats = variables["params"], variables["stats"]
    start = (params, stats, optimiser.init(params), jnp.float32(0))
    params, stats, _, total = jax.lax.fori_loop(0, epochs, epoch, start)
    return {"params": params, "stats": stats}, total / jnp.maximum(steps, 1).astype(jnp.float32)
