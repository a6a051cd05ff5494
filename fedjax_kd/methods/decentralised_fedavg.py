"""FedAvg without a server: the round's aggregator averages the models of equal architecture.

The plainest opponent of DFML (Khalil et al. 2024, arXiv:2402.01863): McMahan et al. 2017,
"Communication-Efficient Learning of Deep Networks from Decentralized Data", arXiv:1602.05629, with
a client in the server's place. How DFML's authors made it serverless is not known to us; what
follows is our assumption. Aggregator and senders are drawn as for DFML.

State: each client's own model.
Round: with P the aggregator and the senders, P_g those of architecture g,

    theta_k <- local SGD from theta_k on the client's own examples    for k in P
    theta_k <- sum_j n_j theta_j / sum_j n_j over j in P_g            for k in P_g

Running statistics of batch normalisation are averaged like parameters. With the weighted softmax
(Legate et al. 2023, arXiv:2304.05260) a client's loss weighs classes by their shares in its own
examples; this is the opponent that DFML has to beat on heterogeneous data.

Clients of one architecture start alike, because averaging models of different starts destroys them
(our assumption; a seed agreed beforehand needs no server). `start="own"` is DFML's start.

Steps: a round takes epochs * ceil(n_k / B) steps in each of senders + 1 models. DFML takes epochs *
ceil(n_a / B) steps, a the aggregator, in as many models: the same number on average.

Expected on the embedded digits (8 users of 2 small MLPs, Dirichlet 0.5, 3 senders, 30 rounds of 4
epochs): 0.89 on the common test set, 0.90 with the weighted softmax; training alone gives 0.62.
"""

from functools import lru_cache, partial
from typing import Literal

import jax
import jax.numpy as jnp
import optax

from fedjax_kd.clients import Purpose, client_keys, per_point, select, whole_axis
from fedjax_kd.data import training_batch
from fedjax_kd.distill import masked_mean
from fedjax_kd.distill.weighted_softmax import class_shares, weighted_softmax_cross_entropy
from fedjax_kd.methods.architectures import (
    by_architecture,
    check_tasks,
    executed_in_groups,
    groups_of,
)
from fedjax_kd.methods.contract import (
    Federation,
    Method,
    Predictors,
    Round,
    RoundReport,
    State,
)
from fedjax_kd.methods.decentralised import (
    THERE_AND_BACK,
    handed_out,
    initial_models,
    there_and_back,
)
from fedjax_kd.methods.local import own_models
from fedjax_kd.methods.pool import draw_pool
from fedjax_kd.models import Model, profile
from fedjax_kd.training import (
    Execution,
    Rates,
    local_update,
    settled,
    sgd,
    sum_over_clients,
)


@lru_cache(maxsize=64)  # equal arguments give one method, and so one compiled program
def decentralised_fedavg(
    models: tuple[Model, ...],
    *,
    senders: int,
    epochs: int,
    batch_size: int,
    execution: Execution,
    supervision: Literal["cross_entropy", "weighted_softmax"] = "cross_entropy",
    start: Literal["common", "own"] = "common",
) -> Method:
    """Serverless FedAvg within each architecture; its hyper-parameters are the `Rates` of SGD.

    `State.clients` holds the models, one tree [K_g, ...] per architecture.

    Args:
        models: the architectures, as many as the federation has groups.
        senders: clients per study point that send to the round's aggregator.
        epochs: local epochs per round.
        batch_size: examples per step.
        execution: how the client axis is run.
        supervision: the local loss.
        start: whether clients of one architecture start from one draw or from their own.

    Returns:
        A method.

    Raises:
        ValueError: if `supervision` or `start` is none of the above, or the models differ in their
            inputs or classes.
    """
    for name, value, allowed in (
        ("supervision", supervision, ("cross_entropy", "weighted_softmax")),
        ("start", start, ("common", "own")),
    ):
        if value not in allowed:
            raise ValueError(f"{name} must be {' or '.join(allowed)}; got {value!r}")
    check_tasks(models)
    flops = tuple(float(epochs * profile(model).training_flops) for model in models)
    bits = tuple(profile(model).bits for model in models)

    def init(federation: Federation) -> State:
        return State(server=(), clients=initial_models(models, federation, execution, start))

    def one_client(model, inputs, hparams, shared):
        variables, key, rows, count = inputs
        (table,) = shared
        held = jnp.arange(rows.shape[0]) < count
        shares = class_shares(table.labels[rows], held, model.n_classes)

        def hard_loss(logits, label):
            if supervision == "weighted_softmax":
                return weighted_softmax_cross_entropy(logits, label, shares)
            return optax.losses.softmax_cross_entropy_with_integer_labels(logits, label)

        def batch_loss(params, stats, batch):
            examples, labels = training_batch(table, rows[batch.positions], batch.key)
            logits, stats = model.apply(
                {"params": params, "stats": stats}, examples, train=True, mask=batch.mask
            )
            return masked_mean(jax.vmap(hard_loss)(logits, labels), batch.mask), stats

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
        people, groups = federation.people, groups_of(models, federation)
        pool = draw_pool(people, round_.index, senders, round_.active)
        averaged, losses = [], []
        for model, members, own in zip(models, groups, state.clients, strict=True):
            group, here = select(people, members), pool.member[members]
            keys = client_keys(group, round_.index, Purpose.BATCH_ORDER)
            (totals, weights), loss = sum_over_clients(
                partial(one_client, model),
                (own, keys, group.train.indices, group.train.counts),
                per_point(hparams, people),
                (federation.table,),
                group.point,
                here,
                execution,
                work=group.train.counts,
            )
            averaged.append(handed_out(totals, weights, own, group.point, here))
            losses.append(loss)
        per_example = by_architecture(flops, groups, people.n_clients)
        counts = jnp.where(pool.member, people.train.counts, 0).astype(jnp.float32)
        sent = by_architecture(bits, groups, people.n_clients)
        phases = there_and_back(pool, people.point, counts * per_example, sent)
        executed = executed_in_groups(people, groups, pool.member, batch_size, execution)
        report = RoundReport(
            loss=whole_axis(tuple(losses), groups, people.n_clients),
            work_flops=phases[0].work_flops,
            executed_flops=executed * per_example,
            uplink_bits=phases[1].uplink_bits + phases[2].uplink_bits,
            downlink_bits=phases[1].downlink_bits + phases[2].downlink_bits,
            phases=phases,
        )
        clients = settled(tuple(averaged), execution, axis="clients")
        return State(server=(), clients=clients), report

    def predict(state: State, federation: Federation) -> Predictors:
        return {"regular": own_models(models, state.clients, federation)}

    return Method(init, round_, predict, THERE_AND_BACK, has_roles=True)
