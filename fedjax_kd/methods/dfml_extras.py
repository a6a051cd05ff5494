"""What may be added to DFML's rounds, and by default is not: training at home, and averaging.

Nothing recovered of the paper (Khalil et al. 2024, arXiv:2402.01863) says for certain whether
senders train before they send; parameters are averaged nowhere in it.
"""

from typing import Any

import jax
import jax.numpy as jnp

from fedjax_kd.clients import Population, Purpose, client_keys, per_client
from fedjax_kd.data import ExampleTable, training_batch
from fedjax_kd.distill.weighted_softmax import class_shares
from fedjax_kd.methods.architectures import weighted_mean
from fedjax_kd.methods.dfml_loss import PoolLoss
from fedjax_kd.models import Model
from fedjax_kd.training import (
    Execution,
    Rates,
    local_update,
    run_clients,
    sgd,
    sum_over_clients,
)


def shares_of_rows(
    table: ExampleTable, rows: jax.Array, count: jax.Array, n_classes: int
) -> jax.Array:
    """Class shares [C] of the first `count` of a client's rows [n_max]."""
    return class_shares(table.labels[rows], jnp.arange(rows.shape[0]) < count, n_classes)


def trained_at_home(
    model: Model,
    stack: Any,
    people: Population,
    table: ExampleTable,
    rates: Rates,
    index: jax.Array,
    member: jax.Array,
    losses: PoolLoss,
    execution: Execution,
    *,
    epochs: int,
    batch_size: int,
) -> Any:
    """Members of one architecture train on their own examples, with the supervised loss alone.

    Args:
        model: the architecture.
        stack: variables [K_g, ...].
        people: its K_g clients.
        table: the example table.
        rates: of the optimiser, scalars or [S].
        index: int32 scalar, the round.
        member: bool [K_g].
        losses: the loss.
        execution: how.
        epochs: static.
        batch_size: static.

    Returns:
        variables [K_g, ...].
    """
    # Batches of the round's other phase, at the aggregator, are drawn for BATCH_ORDER.
    keys = client_keys(people, index, Purpose.DISTIL_ORDER)

    def one_client(variables, inputs, shared):
        key, rows, count, own_rates = inputs
        (table,) = shared
        shares = shares_of_rows(table, rows, count, model.n_classes)

        def batch_loss(params, stats, batch):
            examples, labels = training_batch(table, rows[batch.positions], batch.key)
            logits, stats = model.apply(
                {"params": params, "stats": stats}, examples, train=True, mask=batch.mask
            )
            return losses.supervised(logits, labels, batch.mask, shares), stats

        return local_update(
            key,
            variables,
            count,
            batch_loss,
            sgd(own_rates),
            capacity=rows.shape[0],
            epochs=epochs,
            batch_size=batch_size,
        )

    train = people.train
    inputs = (keys, train.indices, train.counts, per_client(rates, people))
    trained, _ = run_clients(
        one_client, stack, inputs, (table,), member, execution, work=train.counts
    )
    return trained


def averaged_within(stack: Any, people: Population, member: jax.Array, execution: Execution) -> Any:
    """Members of one architecture and study point get the plain mean of their models.

    Args:
        stack: variables [K_g, ...].
        people: the architecture's K_g clients.
        member: bool [K_g].
        execution: how.

    Returns:
        variables [K_g, ...].
    """

    def one_client(variables, server, shared):
        del server, shared
        return (variables, jnp.float32(1)), ()

    servers = jnp.zeros(people.n_points)
    (totals, weights), _ = sum_over_clients(
        one_client, stack, servers, (), people.point, member, execution
    )
    means = weighted_mean(totals, weights, totals)
    return chosen(member, jax.tree.map(lambda leaf: leaf[people.point], means), stack)


def chosen(which: jax.Array, new: Any, old: Any) -> Any:
    """The rows of `new` where `which` [K_g] says so, bit for bit those of `old` elsewhere."""

    def choose(a, b):
        return jnp.where(which.reshape(which.shape + (1,) * (a.ndim - 1)), a, b)

    return jax.tree.map(choose, new, old)
