"""Weak and strong clients: who trains which model, the two losses, and the mean of what comes back.

What on-device KD (arXiv:2503.11151) and its baselines have in common, beneath the steps of the
algorithm itself (`fedjax_kd.methods.on_device_kd`). A role is a row of seats, a fixed number per
study point, so that a round costs what its seats cost in every form of execution.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from fedjax_kd.clients import Population, draw_roles, put_rows
from fedjax_kd.data import ExampleTable, training_batch
from fedjax_kd.distill import kl_with_temperature, masked_mean
from fedjax_kd.models import Model
from fedjax_kd.training import Batch, Execution, Rates, sgd

Weighting = Literal["uniform", "examples"]
TeacherStatistics = Literal["batch", "running"]
NORMALISATION = ("scale", "offset")
"""The names of normalisation's parameters in `fedjax_kd.models`."""


class Training(NamedTuple):
    """How a client trains, and how clients are averaged; static.

    Attributes:
        steps: mini-batch steps per phase.
        batch_size: examples per step.
        weighting: `uniform` for the plain mean over clients, `examples` for one weighted by how
            many examples each trained on.
        execution: how the clients are run.
    """

    steps: int
    batch_size: int
    weighting: Weighting
    execution: Execution


class Seats(NamedTuple):
    """Who has a role in a round: M seats, equally many of each study point, point by point.

    Attributes:
        positions: int32 [M], on the client axis.
        present: bool [M], False for seats that nobody takes.
    """

    positions: jax.Array
    present: jax.Array


def sampled(people: Population, index: jax.Array, cohort: int | None, active: jax.Array) -> Seats:
    """`cohort` of the active clients of each point, drawn anew each round; None takes them all."""
    if cohort is None:
        everybody = jnp.lexsort((people.user, people.point)).astype(jnp.int32)
        return Seats(everybody, active[everybody])
    return Seats(*draw_roles(people, index, min(cohort, people.n_users), active))


def strong_seats(people: Population, strong: int, active: jax.Array) -> Seats:
    """The active clients whose user number is below `strong`, users ascending.

    Found by number and not by position: part of a population has the strong clients that it has.
    """
    chosen = active & (people.user < strong)
    order = jnp.lexsort((people.user, jnp.logical_not(chosen), people.point))
    by_point = order.reshape(people.n_points, people.n_users)
    positions = by_point[:, : min(strong, people.n_users)].reshape(-1).astype(jnp.int32)
    return Seats(positions, chosen[positions])


def of_everybody(values: Any, seats: Seats, n_clients: int) -> Any:
    """Puts what the seats' clients have, [M, ...], on the client axis, [K, ...]; else zeros."""
    blank = jax.tree.map(lambda leaf: jnp.zeros((n_clients, *leaf.shape[1:]), leaf.dtype), values)
    return put_rows(blank, seats.positions, values, seats.present)


def decayed_sgd(values: Rates, params: Any) -> Any:
    """SGD whose weight decay spares the scales and offsets of normalisation.

    The paper's code adds 1e-4 * sum(w^2) to the loss, over the kernels of convolutions and dense
    layers and the dense bias; its gradient is 2e-4 * w, so that code's L2 is a `weight_decay` of
    2e-4 here. (Biases of convolutions, which its networks do not have, are decayed too.)

    Args:
        values: the rates.
        params: one model's parameters; only their names are read.

    Returns:
        `sgd(values)` where nothing is to be spared, so that plain SGD keeps its fast form; else an
        optax transformation of the same parts.
    """
    decays = jax.tree.map_with_path(
        lambda path, _: getattr(path[-1], "key", None) not in NORMALISATION, params
    )
    if values.weight_decay is None or all(jax.tree.leaves(decays)):
        return sgd(values)
    parts = [
        optax.add_decayed_weights(values.weight_decay, mask=decays),
        optax.sgd(values.learning_rate, momentum=values.momentum),
    ]
    if values.gradient_clip is not None:
        parts.insert(0, optax.clip_by_global_norm(values.gradient_clip))
    return optax.chain(*parts)


def labelled_loss(model: Model, table: ExampleTable, rows: jax.Array) -> Callable:
    """The batch loss CE(y, z) on rows [n] of the table."""

    def batch_loss(params, stats, batch: Batch):
        inputs, labels = training_batch(table, rows[batch.positions], batch.key)
        variables = {"params": params, "stats": stats}
        logits, stats = model.apply(variables, inputs, train=True, mask=batch.mask)
        losses = optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels)
        return masked_mean(losses, batch.mask), stats

    return batch_loss


def soft_loss(
    student: Model,
    teach: Callable[[jax.Array, jax.Array], jax.Array],
    table: ExampleTable,
    rows: jax.Array,
    temperature: jax.Array,
    weight: jax.Array,
) -> Callable:
    """The batch loss w T^2 KL(teacher || student) on rows [n] of the table; labels are not read.

    Args:
        student: the architecture that is trained.
        teach: `(inputs [B, ...], mask [B]) -> logits [B, C]`; sees the very (augmented) inputs that
            the student sees, and gets no gradient.
        table: the examples.
        rows: int32 [n].
        temperature: T > 0.
        weight: w >= 0.

    Returns:
        A batch loss.
    """
    divergence = jax.vmap(partial(kl_with_temperature, temperature=temperature))

    def batch_loss(params, stats, batch: Batch):
        inputs, _ = training_batch(table, rows[batch.positions], batch.key)
        taught = jax.lax.stop_gradient(teach(inputs, batch.mask))
        variables = {"params": params, "stats": stats}
        logits, stats = student.apply(variables, inputs, train=True, mask=batch.mask)
        divergences = masked_mean(divergence(taught, logits), batch.mask)
        return weight * temperature * temperature * divergences, stats

    return batch_loss


def teacher_of(model: Model, variables: Any, statistics: TeacherStatistics) -> Callable:
    """What `soft_loss` asks of a single teacher; statistics that it would move are dropped."""
    train = statistics == "batch"
    return lambda inputs, mask: model.apply(variables, inputs, train=train, mask=mask)[0]


def weight_of(count: jax.Array, weighting: Weighting) -> jax.Array:
    """The weight of a client that trained on `count` examples; without any it does not count."""
    counted = (count > 0).astype(jnp.float32)
    return counted if weighting == "uniform" else count.astype(jnp.float32)


def weighted_change(new: Any, old: Any, weight: jax.Array) -> tuple[Any, jax.Array]:
    """A client's message: what training changed, times its weight, and the weight."""
    return jax.tree.map(lambda a, b: weight * (a - b), new, old), weight


def moved(old: Any, message: tuple[Any, jax.Array]) -> Any:
    """Servers' models [S, ...] plus the mean of the changes; as they were where nobody counts."""
    changes, weights = message

    def move(leaf, change):
        weight = weights.reshape(weights.shape + (1,) * (leaf.ndim - 1))
        return jnp.where(weight > 0, leaf + change / jnp.where(weight > 0, weight, 1.0), leaf)

    return jax.tree.map(move, old, changes)


def check_choices(*choices: tuple[str, Any, tuple[str, ...]]) -> None:
    """Raises a ValueError for the first (name, value, allowed) whose value is not allowed."""
    for name, value, allowed in choices:
        if value not in allowed:
            raise ValueError(f"{name} must be {' or '.join(allowed)}; got {value!r}")


def check_counts(**counts: int | None) -> None:
    """Raises a ValueError for the first count that is no integer of at least 1; None may stand."""
    for name, value in counts.items():
        if value is not None and (
            isinstance(value, bool) or not isinstance(value, int) or value < 1
        ):
            raise ValueError(f"{name} must be an integer of at least 1; got {value!r}")


def check_models(auxiliary: Model, target: Model) -> None:
    """Raises a ValueError if the two do not take the same inputs or tell the same classes."""
    for name in ("input_shape", "n_classes"):
        small, large = getattr(auxiliary, name), getattr(target, name)
        if small != large:
            raise ValueError(f"auxiliary and target must agree in {name}; got {small} and {large}")
