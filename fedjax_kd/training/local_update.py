"""What one client does in a round: some steps of stochastic gradient descent on its own rows."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fedjax_kd.kernels.native import use_native
from fedjax_kd.training.optimiser import Sgd, plain_step

Variables = dict[str, Any]
Order = Literal["shuffled", "as_stored"]
_NO_EPOCH = 2**32 - 1  # a number that no epoch has


class Batch(NamedTuple):
    """The examples of one step.

    Attributes:
        positions: int32 [B], into the client's row.
        mask: bool [B], which of them are real; a short batch is filled up.
        key: typed key of this step alone, for augmentation.
    """

    positions: jax.Array
    mask: jax.Array
    key: jax.Array


BatchLoss = Callable[[Any, Any, Batch], tuple[jax.Array, Any]]


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
    order: Order = "shuffled",
) -> tuple[Variables, jax.Array]:
    """Trains one client's model on its own rows, from a fresh optimiser state.

    Every epoch visits each of the client's examples once in a new random order. The last batch of
    an epoch may be short: it is masked, not dropped, and its mean is over the examples it has. The
    number of steps follows `count`, so a small client costs little even beside a large one.

    Args:
        key: the client's key for this round.
        variables: `{"params": ..., "stats": ...}` of one model.
        count: int32 scalar, examples in the client's row; with 0 nothing changes.
        batch_loss: `(params, stats, Batch) -> (loss, stats)`.
        optimiser: `sgd(rates)` or any optax transformation. Plain SGD updates the weights of dense
            layers while it computes their gradients, where the loss allows it.
        capacity: length of the (padded) row, static.
        epochs: static.
        batch_size: static.
        order: static; `as_stored` visits the rows in the order in which they stand, every epoch
            alike, and leaves out those that do not fill a batch. Some published code trains so; it
            is there to reproduce it.

    Returns:
        The trained variables and the mean loss per step over the last epoch (0 without examples).

    Raises:
        ValueError: if `order` is none of the two.
    """
    if order not in ("shuffled", "as_stored"):
        raise ValueError(f"order must be 'shuffled' or 'as_stored'; got {order!r}")
    spare = 0 if order == "as_stored" else batch_size - 1
    steps = (count + spare) // batch_size
    params, stats = variables["params"], variables["stats"]
    epoch = _epoch(key, count, batch_loss, optimiser, capacity, batch_size, order)

    def whole_epoch(index, carry):
        params, stats, momentum, _ = carry
        return epoch(index, steps, (params, stats, momentum, jnp.float32(0)))

    start = (params, stats, optimiser.init(params), jnp.float32(0))
    params, stats, _, total = jax.lax.fori_loop(0, epochs, whole_epoch, start)
    return {"params": params, "stats": stats}, total / jnp.maximum(steps, 1).astype(jnp.float32)


def local_steps(
    key: jax.Array,
    params: Any,
    stats: Any,
    momentum: Any,
    count: jax.Array,
    batch_loss: BatchLoss,
    optimiser: optax.GradientTransformation | Sgd,
    *,
    capacity: int,
    steps: int,
    batch_size: int,
) -> tuple[Any, Any, Any, jax.Array]:
    """Takes a fixed number of steps, whatever the client holds, and hands the optimiser on.

    The client's rows are visited in a random order, and in a new one whenever they are used up; the
    last batch before that may be short. So a client with fewer rows than a batch takes all its
    steps with all its rows.

    Args:
        key: the client's key for this round and phase.
        params: the parameters to start from.
        stats: what goes through the loss beside them.
        momentum: the optimiser's state: `optimiser.init(params)`, or what an earlier phase left.
        count: int32 scalar, examples in the client's row; with 0 nothing changes.
        batch_loss: as for `local_update`.
        optimiser: as for `local_update`.
        capacity: length of the (padded) row, static.
        steps: static.
        batch_size: static.

    Returns:
        Parameters, stats, the optimiser's state, and the mean loss over the steps (0 without
        examples).
    """
    per_epoch = (count + batch_size - 1) // batch_size
    epochs = jnp.where(count > 0, (steps + per_epoch - 1) // jnp.maximum(per_epoch, 1), 0)
    epoch = _epoch(key, count, batch_loss, optimiser, capacity, batch_size)

    def some_of_it(index, carry):
        return epoch(index, jnp.minimum(per_epoch, steps - index * per_epoch), carry)

    start = (params, stats, momentum, jnp.float32(0))
    params, stats, momentum, total = jax.lax.fori_loop(0, epochs, some_of_it, start)
    return params, stats, momentum, total / steps


def batch_keys(key: jax.Array, epoch: jax.Array) -> jax.Array:
    """What the keys of an epoch's batches are folded from: no order is ever drawn from it."""
    return jax.random.fold_in(jax.random.fold_in(key, jnp.uint32(_NO_EPOCH)), epoch)


def _epoch(
    key: jax.Array,
    count: jax.Array,
    batch_loss: BatchLoss,
    optimiser: optax.GradientTransformation | Sgd,
    capacity: int,
    batch_size: int,
    order: Order = "shuffled",
):
    """`(index, steps, carry) -> carry`: the first steps of an epoch, with its own order."""
    one_step = _step(batch_loss, optimiser)

    def epoch(index, steps, carry):
        if order == "shuffled":
            drawn = epoch_order(jax.random.fold_in(key, index), count, capacity, batch_size)
        else:
            drawn = jnp.arange(capacity + -capacity % batch_size, dtype=jnp.int32)
        in_epoch = batch_keys(key, index)

        def step(index, carry):
            params, stats, momentum, total = carry
            start = index * batch_size
            positions = jax.lax.dynamic_slice(drawn, (start,), (batch_size,))
            mask = start + jnp.arange(batch_size) < count
            batch = Batch(positions, mask, jax.random.fold_in(in_epoch, index))
            params, stats, momentum, loss = one_step(params, stats, momentum, batch)
            return params, stats, momentum, total + loss

        return jax.lax.fori_loop(0, steps, step, carry)

    return epoch


def _step(batch_loss: BatchLoss, optimiser: optax.GradientTransformation | Sgd):
    """`(params, stats, momentum, batch) -> (params, stats, momentum, loss)`."""
    gradient = jax.value_and_grad(batch_loss, has_aux=True)

    def ordinary(params, stats, momentum, batch):
        (loss, stats), grads = gradient(params, stats, batch)
        updates, momentum = optimiser.update(grads, momentum, params)
        return optax.apply_updates(params, updates), stats, momentum, loss

    if not (isinstance(optimiser, Sgd) and optimiser.plain and use_native()):
        return ordinary
    in_place = plain_step(batch_loss, optimiser.rates)

    def step(params, stats, momentum, batch):
        params, stats, loss = in_place(params, stats, batch)
        return params, stats, momentum, loss

    return step
