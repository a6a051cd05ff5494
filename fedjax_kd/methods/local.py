"""Local: every client trains its own model on its own examples, and nothing is exchanged.

The control of every comparison: what does not beat it is not worth its communication. Models may be
of several architectures.

Round: theta_k <- local SGD on CE.

Expected: equal to every method here whose exchange is switched off, such as FedProto of weight 0.
"""

from functools import lru_cache

import jax
import jax.numpy as jnp
import optax

from fedjax_kd.clients import Purpose, client_keys, per_point
from fedjax_kd.data import ExampleTable, training_batch
from fedjax_kd.distill import masked_mean
from fedjax_kd.methods.architectures import (
    by_architecture,
    check_tasks,
    executed_in_groups,
    groups_of,
    init_models,
    run_groups,
)
from fedjax_kd.methods.contract import (
    Federation,
    Method,
    Predictor,
    Predictors,
    Round,
    RoundReport,
    State,
    logits_of,
)
from fedjax_kd.methods.pool import checked_senders, draw_pool
from fedjax_kd.models import Model, profile
from fedjax_kd.training import Execution, Rates, local_update, settled, sgd


@lru_cache(maxsize=64)  # equal arguments give one method, and so one compiled program
def local(
    models: tuple[Model, ...],
    *,
    epochs: int,
    batch_size: int,
    execution: Execution,
    senders: int | None = None,
) -> Method:
    """Local training; its hyper-parameters are the `Rates` of SGD.

    `State.server` is `()`, `State.clients` holds the variables [K_g, ...] of each group.

    Args:
        models: one architecture per group of the federation.
        epochs: local epochs per round.
        batch_size: examples per step.
        execution: how the client axis is run.
        senders: None trains everybody in every round. A number trains those only whom DFML would
            draw for its pool, so that the two can be compared at equal steps.

    Returns:
        A method with the view `own`.

    Raises:
        ValueError: if the models differ in their inputs or classes, or `senders` is no number of at
            least 1.
    """
    check_tasks(models)
    if senders is not None:
        checked_senders(senders)
    flops = tuple(float(epochs * profile(model).training_flops) for model in models)

    def init(federation: Federation) -> State:
        groups = groups_of(models, federation)
        made = init_models(models, federation.people, groups)
        return State(server=(), clients=settled(made, execution, axis="clients"))

    def one_client_of(model: Model):
        def one_client(variables, inputs, hparams, shared):
            key, rows, count = inputs
            (table,) = shared
            trained, loss = local_update(
                key,
                variables,
                count,
                cross_entropy(model, table, rows),
                sgd(hparams),
                capacity=rows.shape[0],
                epochs=epochs,
                batch_size=batch_size,
            )
            return trained, (), loss

        return one_client

    def round_(
        state: State, federation: Federation, hparams: Rates, round_: Round
    ) -> tuple[State, RoundReport]:
        people, active = federation.people, round_.active
        groups = groups_of(models, federation)
        if senders is not None:
            active = draw_pool(people, round_.index, senders, active).member

        def inputs_of(some):
            keys = client_keys(some, round_.index, Purpose.BATCH_ORDER)
            return keys, some.train.indices, some.train.counts

        clients, _, loss = run_groups(
            one_client_of,
            models,
            state.clients,
            federation,
            inputs_of,
            per_point(hparams, people),
            (federation.table,),
            active,
            execution,
        )
        per_example = by_architecture(flops, groups, people.n_clients)
        executed = executed_in_groups(people, groups, active, batch_size, execution)
        nothing = jnp.zeros(people.n_clients, jnp.float32)
        report = RoundReport(
            loss=loss,
            work_flops=jnp.where(active, people.train.counts, 0).astype(jnp.float32) * per_example,
            executed_flops=executed * per_example,
            uplink_bits=nothing,
            downlink_bits=nothing,
        )
        return State(server=(), clients=clients), report

    def predict(state: State, federation: Federation) -> Predictors:
        return {"own": own_models(models, state.clients, federation)}

    return Method(init, round_, predict, has_roles=senders is not None)


def cross_entropy(model: Model, table: ExampleTable, rows: jax.Array):
    """The batch loss `(params, stats, batch) -> (loss, stats)` of plain supervised training.

    Args:
        model: the architecture.
        table: the example table.
        rows: int32 [n_max], the client's rows of it.
    """

    def batch_loss(params, stats, batch):
        examples, labels = training_batch(table, rows[batch.positions], batch.key)
        logits, stats = model.apply(
            {"params": params, "stats": stats}, examples, train=True, mask=batch.mask
        )
        losses = optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels)
        return masked_mean(losses, batch.mask), stats

    return batch_loss


def own_models(
    models: tuple[Model, ...], stacks: tuple, federation: Federation
) -> tuple[Predictor, ...]:
    """Every client predicts with its own model; stacks of variables [K_g, ...], one per group."""
    return tuple(
        Predictor(stack, jnp.arange(len(members), dtype=jnp.int32), members, logits_of(model))
        for model, stack, members in zip(models, stacks, groups_of(models, federation), strict=True)
    )
