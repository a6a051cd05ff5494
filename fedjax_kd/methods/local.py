"""Local: every client trains its own model on its own examples, and nothing is exchanged.

The control of every comparison: what does not beat it is not worth its communication. Models may be
of several architectures.

Round: theta_k <- local SGD on CE.

Expected: equal to every method here whose exchange is switched off, such as FedProto of weight 0.
"""

from collections.abc import Sequence
from functools import lru_cache

import jax
import jax.numpy as jnp
import optax

from fedjax_kd.data import ExampleTable, training_batch
from fedjax_kd.distill import masked_mean
from fedjax_kd.methods.architectures import groups_of, init_models
from fedjax_kd.methods.client_work import (
    AtHand,
    Examples,
    Loss,
    Training,
    as_models,
    each_client,
    one_phase,
    state_of,
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
from fedjax_kd.training import Execution, Rates
from fedjax_kd.training.local_update import Order


@lru_cache(maxsize=64)  # equal arguments give one method, and so one compiled program
def local(
    models: Model | tuple[Model, ...],
    *,
    epochs: int,
    batch_size: int,
    execution: Execution,
    senders: int | None = None,
    order: Order = "shuffled",
) -> Method:
    """Local training; its hyper-parameters are the `Rates` of SGD.

    `State.server` is `()`, `State.clients` holds the variables [K_g, ...] of each group.

    Args:
        models: one architecture for all, or one per group of the federation.
        epochs: local epochs per round.
        batch_size: examples per step.
        execution: how the client axis is run.
        senders: None trains everybody in every round. A number trains those only whom DFML would
            draw for its pool, so that the two can be compared at equal steps.
        order: of a client's examples; see `training.local_update`.

    Returns:
        A method with the view `own`.

    Raises:
        ValueError: if the models differ in their inputs or classes, or `senders` is no number of at
            least 1.
    """
    found = as_models(models)
    if senders is not None:
        checked_senders(senders)
    training = Training(epochs, batch_size, execution, order)
    flops = tuple(float(epochs * profile(model).training_flops) for model in found)

    def init(federation: Federation) -> State:
        made = init_models(found, federation.people, groups_of(found, federation))
        return state_of((), made, execution)

    def client_of(model: Model):
        def client(variables, at: AtHand):
            trained, loss = at.train(variables, label_loss(model), at.numbers)
            return trained, (), loss

        return client

    def round_(
        state: State, federation: Federation, hparams: Rates, round_: Round
    ) -> tuple[State, RoundReport]:
        if senders is not None:
            pool = draw_pool(federation.people, round_.index, senders, round_.active)
            round_ = Round(round_.index, pool.member)
        clients, _, loss = each_client(
            client_of, found, state.clients, federation, round_, training, hparams=hparams
        )
        report = one_phase(
            found,
            federation,
            round_.active,
            training,
            loss,
            flops_per_example=flops,
            uplink_bits=0.0,
            downlink_bits=0.0,
        )
        return State(server=(), clients=clients), report

    def predict(state: State, federation: Federation) -> Predictors:
        return {"own": own_models(found, state.clients, federation)}

    return Method(init, round_, predict, has_roles=senders is not None)


def label_loss(model: Model) -> Loss:
    """Cross entropy with the labels: the loss of plain supervised training."""

    def loss(params, stats, examples: Examples):
        bound, labels = {"params": params, "stats": stats}, examples.labels
        logits, stats = model.apply(bound, examples.inputs, train=True, mask=examples.mask)
        return optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels), stats

    return loss


def cross_entropy(model: Model, table: ExampleTable, rows: jax.Array):
    """`label_loss` as a batch loss `(params, stats, batch) -> (loss, stats)` of `local_update`."""

    def batch_loss(params, stats, batch):
        inputs, labels = training_batch(table, rows[batch.positions], batch.key)
        losses, stats = label_loss(model)(params, stats, Examples(inputs, labels, batch.mask))
        return masked_mean(losses, batch.mask), stats

    return batch_loss


def own_models(
    models: Sequence[Model], stacks: tuple, federation: Federation
) -> tuple[Predictor, ...]:
    """Every client predicts with its own model; stacks of variables [K_g, ...], one per group."""
    return tuple(
        Predictor(stack, jnp.arange(len(members), dtype=jnp.int32), members, logits_of(model))
        for model, stack, members in zip(models, stacks, groups_of(models, federation), strict=True)
    )
