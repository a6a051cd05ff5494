"""FedAvg: every client trains the server's model on its own examples, the server averages.

McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from Decentralized Data",
arXiv:1602.05629, Algorithm 1. In DT-KD it trains the teacher over the users' digital twins, and it
is one of the baselines. With a single client per server it is training on pooled data.

State: the server's model, one per study point.
Round: theta_k <- local SGD from theta;  theta <- sum_k n_k theta_k / sum_k n_k over participants.
Running statistics of batch normalisation are averaged like parameters.

Expected on the embedded digits (5 users, Dirichlet 0.5): above 90 % on the common test set within
20 rounds of one epoch.
"""

from functools import lru_cache

import jax
import jax.numpy as jnp
import optax

from fedjax_kd.clients import Purpose, client_keys, draw_key, per_point
from fedjax_kd.data import training_batch
from fedjax_kd.distill import masked_mean
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
from fedjax_kd.models import Model, profile
from fedjax_kd.training import (
    Execution,
    Rates,
    executed_examples,
    local_update,
    settled,
    sgd,
    sum_over_clients,
)


@lru_cache(maxsize=64)  # equal arguments give one method, and so one compiled program
def fedavg(model: Model, *, epochs: int, batch_size: int, execution: Execution) -> Method:
    """FedAvg of one architecture; its hyper-parameters are the `Rates` of local SGD.

    `State.server` holds the servers' models, [S, ...]; clients keep nothing.

    Args:
        model: the architecture that every client trains.
        epochs: local epochs per round.
        batch_size: examples per step.
        execution: how the client axis is run.

    Returns:
        A method.
    """
    costs = profile(model)

    def init(federation: Federation) -> State:
        keys = jax.vmap(lambda root: draw_key(root, 0, Purpose.INIT))(federation.people.roots)
        models = jax.vmap(model.init)(keys)
        return State(server=settled(models, execution, axis="study"), clients=())

    def one_client(inputs, server, shared):
        key, rows, count = inputs
        variables, hparams = server
        (table,) = shared

        def batch_loss(params, stats, batch):
            examples, labels = training_batch(table, rows[batch.positions], batch.key)
            logits, stats = model.apply(
                {"params": params, "stats": stats}, examples, train=True, mask=batch.mask
            )
            losses = optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels)
            return masked_mean(losses, batch.mask), stats

        trained, loss = local_update(
            key,
            variables,
            count,
            batch_loss,
            sgd(hparams),
            capacity=rows.shape[0],
            epochs=epochs,
            batch_size=batch_size,
        )
        weight = count.astype(jnp.float32)
        return (jax.tree.map(lambda leaf: leaf * weight, trained), weight), loss

    def round_(
        state: State, federation: Federation, hparams: Rates, round_: Round
    ) -> tuple[State, RoundReport]:
        people = federation.people
        keys = client_keys(people, round_.index, Purpose.BATCH_ORDER)
        (totals, weights), loss = sum_over_clients(
            one_client,
            (keys, people.train.indices, people.train.counts),
            (state.server, per_point(hparams, people)),
            (federation.table,),
            people.point,
            round_.active,
            execution,
            work=people.train.counts,
        )

        def average(total, old):
            weight = weights.reshape(weights.shape + (1,) * (total.ndim - 1))
            return jnp.where(weight > 0, total / jnp.maximum(weight, 1.0), old)

        active = round_.active.astype(jnp.float32)
        examples = people.train.counts.astype(jnp.float32)
        executed = executed_examples(people.train.counts, round_.active, batch_size, execution)
        report = RoundReport(
            loss=loss,
            work_flops=active * examples * (epochs * costs.training_flops),
            executed_flops=executed * (epochs * costs.training_flops),
            uplink_bits=active * costs.bits,
            downlink_bits=active * costs.bits,
        )
        averages = jax.tree.map(average, totals, state.server)
        return State(server=settled(averages, execution, axis="study"), clients=()), report

    def predict(state: State, federation: Federation) -> Predictors:
        whole = Predictor(state.server, federation.people.point, logits=logits_of(model))
        return {"model": (whole,)}

    return Method(init, round_, predict)
