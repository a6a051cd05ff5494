"""How good the clients' models are: on their own test data, and on what all have in common."""

from functools import partial

import jax
import jax.numpy as jnp

from fedjax_kd.clients import take_rows
from fedjax_kd.data import IndexTable
from fedjax_kd.methods.contract import Federation, Predictor
from fedjax_kd.training import Execution, run_clients
from fedjax_kd.training.evaluation import accuracy_with


def client_accuracies(
    predictors: tuple[Predictor, ...], federation: Federation, execution: Execution
) -> tuple[jax.Array, jax.Array]:
    """Accuracy of every client's model; a model that several use is scored once on common data.

    Args:
        predictors: one per group of clients; together they have every client once.
        federation: K clients.
        execution: how the client axis is run.

    Returns:
        float32 [K] on each client's own test split, and [K] on its point's common test set.
    """
    people = federation.people
    personal = jnp.zeros(people.n_clients, jnp.float32)
    common = jnp.zeros(people.n_clients, jnp.float32)
    for each in predictors:
        everybody = jnp.arange(people.n_clients, dtype=jnp.int32)
        clients = everybody if each.clients is None else each.clients
        own = take_rows(people.test, clients)
        personal = personal.at[clients].set(
            _accuracies(each, each.row, federation, own, jnp.ones(clients.shape, bool), execution)
        )
        n_models = jax.tree.leaves(each.stack)[0].shape[0]
        # Where each model of the stack belongs, and whether anybody uses it.
        point = jnp.zeros(n_models, jnp.int32).at[each.row].set(people.point[clients])
        used = jnp.zeros(n_models, bool).at[each.row].set(True)
        rows = take_rows(people.common_test, point)
        every_model = jnp.arange(n_models, dtype=jnp.int32)
        scores = _accuracies(each, every_model, federation, rows, used, execution)
        common = common.at[clients].set(scores[each.row])
    return personal, common


def _accuracies(
    predictor: Predictor,
    row: jax.Array,
    federation: Federation,
    rows: IndexTable,
    wanted: jax.Array,
    execution: Execution,
) -> jax.Array:
    """float32 [n]: model `row[i]` of the stack on the examples `rows[i]`."""
    logits = predictor.logits
    if logits is None:
        raise ValueError("logits: None; allowed: the function by which the predictor classifies")

    def one_client(state, inputs, shared):
        which, indices, count = inputs
        stack, table = shared
        variables = jax.tree.map(lambda leaf: leaf[which], stack)
        return state, accuracy_with(partial(logits, variables), table, indices, count)

    inputs = (row, rows.indices, rows.counts)
    shared = (predictor.stack, federation.table)
    return run_clients(one_client, (), inputs, shared, wanted, execution, work=rows.counts)[1]
