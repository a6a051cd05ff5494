"""Accuracy and logits of one model on rows of the example table."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from fedjax_kd.data import ExampleTable, IndexTable, gather
from fedjax_kd.models import Model
from fedjax_kd.training.client_loop import run_clients
from fedjax_kd.training.execution import Execution
from fedjax_kd.training.local_update import Variables


def accuracy(
    model: Model,
    variables: Variables,
    table: ExampleTable,
    rows: jax.Array,
    count: jax.Array,
    *,
    batch_size: int = 256,
) -> jax.Array:
    """Share of correct predictions of ONE model over its rows, as `accuracy_with`."""
    predict = partial(_logits, model, variables)
    return accuracy_with(predict, table, rows, count, batch_size=batch_size)


def accuracy_with(
    predict: Callable[[jax.Array], jax.Array],
    table: ExampleTable,
    rows: jax.Array,
    count: jax.Array,
    *,
    batch_size: int = 256,
) -> jax.Array:
    """Share of correct predictions over some rows, whatever makes them.

    Args:
        predict: inputs [B, ...] to logits [B, C], the largest of which is the prediction.
        table: the example table.
        rows: int32 [n_max], indices into the table.
        count: int32 scalar, valid entries of `rows`; the work follows it.
        batch_size: examples per forward pass, static.

    Returns:
        float32 scalar in [0, 1]; 0 if there is nothing to score.
    """

    def count_hits(correct, start, logits, labels):
        hits = jnp.argmax(logits, axis=-1) == labels
        valid = start + jnp.arange(len(labels)) < count
        return correct + jnp.sum(hits & valid, dtype=jnp.int32)

    correct = _over_batches(predict, table, rows, count, batch_size, count_hits, jnp.int32(0))
    return correct.astype(jnp.float32) / jnp.maximum(count, 1).astype(jnp.float32)


def logits_of_rows(
    model: Model,
    variables: Variables,
    table: ExampleTable,
    rows: jax.Array,
    count: jax.Array,
    *,
    batch_size: int = 256,
) -> jax.Array:
    """Logits of ONE model for its rows, in evaluation mode.

    Returns:
        float32 [n_max, C]; zeros past `count`.
    """
    capacity = rows.shape[0]

    def keep(out, start, logits, labels):
        return jax.lax.dynamic_update_slice(out, logits, (start, 0))

    blank = jnp.zeros(
        (capacity + batch_size, model.n_classes), jnp.float32
    )  # room for a last batch
    predict = partial(_logits, model, variables)
    out = _over_batches(predict, table, rows, count, batch_size, keep, blank)[:capacity]
    return jnp.where((jnp.arange(capacity) < count)[:, None], out, 0.0)


def _logits(model: Model, variables: Variables, inputs: jax.Array) -> jax.Array:
    return model.apply(variables, inputs, train=False)[0]


def _over_batches(
    predict: Callable[[jax.Array], jax.Array],
    table: ExampleTable,
    rows: jax.Array,
    count: jax.Array,
    batch_size: int,
    visit: Callable[[Any, jax.Array, jax.Array, jax.Array], Any],
    carry: Any,
) -> Any:
    """Folds `visit(carry, start, logits [B, C], labels [B])` over the first `count` rows."""
    batch_size = min(batch_size, rows.shape[0])
    padded = jnp.pad(rows, (0, -rows.shape[0] % batch_size))

    def step(index, carry):
        start = index * batch_size
        inputs, labels = gather(table, jax.lax.dynamic_slice(padded, (start,), (batch_size,)))
        return visit(carry, start, predict(inputs), labels)

    return jax.lax.fori_loop(0, (count + batch_size - 1) // batch_size, step, carry)


@partial(jax.jit, static_argnames=("model", "execution"))
def accuracy_of_clients(
    model: Model,
    stack: Variables,
    stack_row: jax.Array,
    table: ExampleTable,
    rows: IndexTable,
    rows_row: jax.Array,
    active: jax.Array,
    execution: Execution,
) -> jax.Array:
    """Accuracy of each client's predictor on the rows it is scored on.

    Args:
        model: the architecture of the stack.
        stack: variables [V, ...].
        stack_row: int32 [K], which model of the stack client k predicts with.
        table: the example table.
        rows: index table [R, n_max].
        rows_row: int32 [K], which row of `rows` client k is scored on.
        active: bool [K].
        execution: how the client axis is run.

    Returns:
        float32 [K]; 0 for inactive clients.
    """

    def one_client(state, which, shared):
        stack, table, rows = shared
        variables = jax.tree.map(lambda leaf: leaf[which[0]], stack)
        score = accuracy(model, variables, table, rows.indices[which[1]], rows.counts[which[1]])
        return state, score

    inputs = (stack_row, rows_row)
    _, scores = run_clients(one_client, (), inputs, (stack, table, rows), active, execution)
    return scores
