"""Local training in ordinary JAX: one jitted step of optax per batch, called from a Python loop.

A client's examples are arrays on the device and a batch is gathered inside the step, so that a call
brings no more than the positions of its batch. Parameters and optimiser state are donated.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from .job import Job, Terms

NORMALISATION = "GroupNorm"
Tree = Any


class Trainer(NamedTuple):
    """A jitted step and the start of its optimiser.

    Attributes:
        init: `(params) -> optimiser state`.
        step: `(params, state, total, batch, *data) -> (params, state, total + loss)`.
    """

    init: Callable[[Tree], Tree]
    step: Callable[..., tuple[Tree, Tree, jax.Array]]


def sgd(terms: Terms, *, clip: bool = True) -> optax.GradientTransformation:
    """SGD as the terms have it."""
    parts = []
    if clip and terms.gradient_clip:
        parts.append(optax.clip_by_global_norm(terms.gradient_clip))
    if terms.weight_decay:
        parts.append(optax.add_decayed_weights(terms.weight_decay, mask=decays))
    return optax.chain(*parts, optax.sgd(terms.learning_rate, momentum=terms.momentum or None))


def decays(params: Tree) -> Tree:
    """True for every leaf that is no scale or offset of normalisation."""
    return jax.tree.map_with_path(
        lambda path, _: not any(NORMALISATION in str(part) for part in path), params
    )


def trainer(
    loss: Callable[..., jax.Array],
    optimiser: optax.GradientTransformation,
    project: Callable[[Tree], Tree] = lambda params: params,
) -> Trainer:
    """Args: `loss(params, batch, *data) -> scalar`; `project` is applied after every step."""

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state, total, batch, *data):
        value, grads = jax.value_and_grad(loss)(params, batch, *data)
        updates, state = optimiser.update(grads, state, params)
        return project(optax.apply_updates(params, updates)), state, total + value

    return Trainer(jax.jit(optimiser.init), step)


def train(
    how: Trainer, params: Tree, state: Tree, order: np.ndarray, tally: list[int], *data: Any
) -> tuple[Tree, Tree, jax.Array]:
    """Takes a step for every batch.

    Args:
        how: the step.
        params: given away.
        state: of the optimiser, given away.
        order: int [H, B], the batches.
        tally: gets the size of every batch that a step was taken on.
        *data: what the loss takes beside the batch.

    Returns:
        Parameters, optimiser state and the mean loss.
    """
    total = jnp.float32(0)
    for batch in order:
        params, state, total = how.step(params, state, total, batch, *data)
        tally.append(len(batch))
    return params, state, total / len(order)


def train_epochs(
    how: Trainer, params: Tree, order: np.ndarray, epochs: int, tally: list[int], *data: Any
) -> tuple[Tree, jax.Array]:
    """Epochs from a fresh optimiser; returns parameters and the mean loss of the last epoch."""
    state, loss = how.init(params), jnp.float32(0)
    for part in np.split(order, epochs):
        params, state, loss = train(how, params, state, part, tally, *data)
    return params, loss


def copied(params: Tree) -> Tree:
    """A copy that may be donated."""
    return jax.tree.map(jnp.copy, params)


def mean(models: list[Tree], weights: list[float] | None = None) -> Tree:
    """The average of some models."""
    shares = np.ones(len(models)) if weights is None else np.asarray(weights)
    shares = (shares / shares.sum()).tolist()
    return jax.tree.map(
        lambda *leaves: sum(w * x for w, x in zip(shares, leaves, strict=True)), *models
    )


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean over a batch."""
    return optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def on_device(array: np.ndarray) -> list[jax.Array]:
    """The rows of an array [K, ...], one by one on the device."""
    return [jnp.asarray(row) for row in array]


def labels_of(job: Job) -> list[jax.Array]:
    """Every client's labels, int32 [n]."""
    return on_device(job.arrays["labels"].astype(np.int32))


def losses_of(values: list[tuple[int, jax.Array]], length: int) -> list[float]:
    """Losses by position, zeros elsewhere; waits for them."""
    out = np.zeros(length)
    for position, value in values:
        out[position] = float(value)
    return out.tolist()


def score(logits_of: Callable[[jax.Array], jax.Array], job: Job) -> tuple[float, float]:
    """Loss and accuracy on the test examples."""
    inputs, labels = job.arrays["test_inputs"], job.arrays["test_labels"]
    logits = np.concatenate(
        [np.asarray(logits_of(jnp.asarray(part))) for part in np.split(inputs, len(inputs) // 250)]
    )
    loss = float(cross_entropy(jnp.asarray(logits), jnp.asarray(labels.astype(np.int32))))
    return loss, float((logits.argmax(1) == labels).mean())


def mean_score(scores: list[tuple[float, float]]) -> tuple[float, float]:
    """Mean loss and accuracy over models."""
    losses, accuracies = zip(*scores, strict=True)
    return float(np.mean(losses)), float(np.mean(accuracies))
