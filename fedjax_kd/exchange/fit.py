"""Fitting a model to scores on public rows: at a server its student, at a client its digest.

Public rows are trained on like a client's own, step by step in random order; instead of a label
each has a target.
"""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from fedjax_kd.data import ExampleTable, training_batch
from fedjax_kd.distill import kl_with_temperature, masked_mean
from fedjax_kd.exchange.scores import Kind, check_kind
from fedjax_kd.models import Model
from fedjax_kd.training import local_steps, local_update

RowLoss = Callable[[jax.Array, jax.Array], jax.Array]
"""`(target [C], logits [C]) -> scalar`, of ONE row."""

Loss = Literal["kl", "mae", "ce"]

_EXCLUDED = -1e30  # the logit of a class that a target excludes; its product with zero is zero


def row_loss(loss: Loss, kind: Kind, temperature: jax.typing.ArrayLike = 1.0) -> RowLoss:
    """What a row's loss is.

    Args:
        loss: `kl`: T^2 KL(target^T || student^T), summed over the classes; the factor keeps the
            size of the gradient independent of T. `ce`: cross entropy to the target's
            probabilities. `mae`: mean absolute difference of logits, or of probabilities if those
            are the targets.
        kind: what the targets are.
        temperature: T > 0, of `kl` alone.

    Returns:
        A function of one row. No gradient flows into the target.

    Raises:
        ValueError: if an option is none of those above.
    """
    check_kind(kind)
    if loss not in ("kl", "mae", "ce"):
        raise ValueError(f"loss must be 'kl', 'mae' or 'ce'; got {loss!r}")

    def divergence(target, logits):
        teacher = target if kind == "logits" else _logarithms(target)
        return kl_with_temperature(teacher, logits, temperature) * (temperature * temperature)

    def cross_entropy(target, logits):
        wanted = jax.nn.softmax(target) if kind == "logits" else target
        return optax.losses.softmax_cross_entropy(logits, wanted)

    def difference(target, logits):
        said = logits if kind == "logits" else jax.nn.softmax(logits)
        return jnp.mean(jnp.abs(said - target))

    chosen = {"kl": divergence, "mae": difference, "ce": cross_entropy}[loss]
    return lambda target, logits: chosen(jax.lax.stop_gradient(target), logits)


def fit_student(
    key: jax.Array,
    variables: dict[str, Any],
    rows: jax.Array,
    count: jax.Array,
    targets: jax.Array,
    *,
    model: Model,
    table: ExampleTable,
    loss: Loss,
    optimiser: Any,
    batch_size: int,
    steps: int | None = None,
    epochs: int | None = None,
    kind: Kind = "probabilities",
    temperature: jax.typing.ArrayLike = 1.0,
    present: jax.Array | None = None,
) -> tuple[dict[str, Any], jax.Array]:
    """Fits ONE model to targets on public rows, from a fresh optimiser state.

    Args:
        key: typed key of this server or client, for the order of the rows.
        variables: `{"params": ..., "stats": ...}` to start from.
        rows: int32 [P], the public rows of the table.
        count: int32 scalar, how many of them are valid; with 0 nothing changes.
        targets: float32 [P, C], one for each row.
        model: the architecture.
        table: the example table; its augmentation applies.
        loss: see `row_loss`.
        optimiser: `training.sgd(rates)` or any optax transformation.
        batch_size: rows per step, static.
        steps: how many steps, static; or
        epochs: how many passes over the rows, static. Give one of the two; either may be 0.
        kind: what the targets are.
        temperature: T > 0, of the loss `kl`.
        present: bool [P], which rows have a target; the others take part in no loss. None for all.

    Returns:
        The fitted variables, and the mean loss over the steps, or over those of the last epoch.

    Raises:
        ValueError: if not exactly one of `steps` and `epochs` is given, or an option is unknown.
    """
    if (steps is None) == (epochs is None):
        raise ValueError(f"steps, epochs: {steps}, {epochs}; allowed: exactly one of them")
    if targets.shape != (rows.shape[0], model.n_classes):
        raise ValueError(
            f"targets: shape {targets.shape}; allowed: {(rows.shape[0], model.n_classes)}, a row of"
            " scores for each public row"
        )
    one_row = row_loss(loss, kind, temperature)

    def batch_loss(params, stats, batch):
        inputs, _ = training_batch(table, rows[batch.positions], batch.key)
        logits, stats = model.apply(
            {"params": params, "stats": stats}, inputs, train=True, mask=batch.mask
        )
        counted = batch.mask if present is None else batch.mask & present[batch.positions]
        losses = jax.vmap(one_row)(targets[batch.positions], logits)
        return masked_mean(losses, counted), stats

    capacity = rows.shape[0]
    if epochs is not None:
        return local_update(
            key,
            variables,
            count,
            batch_loss,
            optimiser,
            capacity=capacity,
            epochs=epochs,
            batch_size=batch_size,
        )
    if not steps:
        return variables, jnp.float32(0)
    params, stats, _, mean = local_steps(
        key,
        variables["params"],
        variables["stats"],
        optimiser.init(variables["params"]),
        count,
        batch_loss,
        optimiser,
        capacity=capacity,
        steps=steps,
        batch_size=batch_size,
    )
    return {"params": params, "stats": stats}, mean


def _logarithms(probabilities: jax.Array) -> jax.Array:
    """Logits whose softmax are these probabilities, finite for classes of probability zero too."""
    some = probabilities > 0
    return jnp.where(some, jnp.log(jnp.where(some, probabilities, 1.0)), _EXCLUDED)
