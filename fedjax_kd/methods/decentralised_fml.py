"""Federated mutual learning without a server: private models learn with a small one that travels.

Shen et al. 2020, "Federated Mutual Learning", arXiv:2006.16765, equations of the local losses,
with the aggregator of a round in the server's place (our assumption, as for the other baselines of
DFML, Khalil et al. 2024, arXiv:2402.01863). The aggregator and the senders are drawn as for DFML.

State: each client's private model, of its own architecture, and its copy of the meme model, of one
architecture for all; at the start the copies are alike.
Round: with P the aggregator and the senders, every k in P trains both models on its own examples,

    L_private = a CE(y, p_private) + (1 - a) KL(sg[p_meme] || p_private)
    L_meme    = b CE(y, p_meme)    + (1 - b) KL(sg[p_private] || p_meme)

and then its meme becomes the uniform mean of the memes of P.

Both models move at once, each towards the other's output before the step: the other is a fixed
target, KL is summed over the classes and averaged over the batch. (Public implementations that let
the gradient into the other model, or that average over the classes too, do something else.) With
a = b = 1 the private models never learn from anybody and the memes are FedAvg with equal weights.

Steps: a round takes epochs * ceil(n_k / B) steps in each of 2 (senders + 1) models, which is twice
as many as DFML on average, half of them in memes.

Expected on the embedded digits (8 users of 2 small MLPs, Dirichlet 0.5, 3 senders, 30 rounds of 4
epochs): 0.94 on the common test set for the memes; 0.62 for the private models, no more than alone.
"""

from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from fedjax_kd.clients import Purpose, client_keys, draw_key, per_point
from fedjax_kd.methods.architectures import (
    by_architecture,
    check_tasks,
    executed_in_groups,
    groups_of,
    run_groups,
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
from fedjax_kd.methods.fml import FmlRates
from fedjax_kd.methods.local import own_models
from fedjax_kd.methods.pool import draw_pool
from fedjax_kd.methods.two_models import learn_together
from fedjax_kd.models import Model, profile
from fedjax_kd.training import Execution, settled


@struct.dataclass
class Clients:
    """What the clients of one architecture keep.

    Attributes:
        private: variables [K_g, ...] of their architecture.
        meme: variables [K_g, ...] of the architecture that travels.
    """

    private: Any
    meme: Any


@lru_cache(maxsize=64)  # equal arguments give one method, and so one compiled program
def decentralised_fml(
    models: tuple[Model, ...],
    meme: Model,
    *,
    senders: int,
    epochs: int,
    batch_size: int,
    execution: Execution,
) -> Method:
    """Serverless federated mutual learning; its hyper-parameters are `FmlRates`.

    `State.clients` holds `Clients`, one per architecture.

    Args:
        models: the private architectures, as many as the federation has groups.
        meme: the architecture that travels.
        senders: clients per study point that send their memes to the round's aggregator.
        epochs: local epochs per round.
        batch_size: examples per step.
        execution: how the client axis is run.

    Returns:
        A method; what is evaluated first are the private models, then the memes.

    Raises:
        ValueError: if the models or the meme differ in their inputs or classes.
    """
    check_tasks((*models, meme))
    travels = profile(meme)
    flops = tuple(
        float(epochs * (profile(model).training_flops + travels.training_flops)) for model in models
    )

    def init(federation: Federation) -> State:
        private = initial_models(models, federation, execution, "own")
        roots, point = federation.people.roots, federation.people.point
        memes = jax.vmap(lambda root: meme.init(draw_key(root, 0, Purpose.INIT)))(roots)
        clients = tuple(
            Clients(own, jax.tree.map(lambda leaf: leaf[point[members]], memes))  # noqa: B023
            for own, members in zip(private, groups_of(models, federation), strict=True)
        )
        return State(server=(), clients=settled(clients, execution, axis="clients"))

    def one_client(model, client, inputs, hparams, shared):
        (private, own_meme), loss = learn_together(
            (model, meme),
            (client.private, client.meme),
            (
                (hparams.private_hard, 1.0 - hparams.private_hard),
                (hparams.meme_hard, 1.0 - hparams.meme_hard),
            ),
            hparams.optimiser,
            *shared,
            *inputs,
            epochs=epochs,
            batch_size=batch_size,
        )
        return Clients(private, own_meme), (own_meme, jnp.float32(1)), loss

    def round_(
        state: State, federation: Federation, hparams: FmlRates, round_: Round
    ) -> tuple[State, RoundReport]:
        people, groups = federation.people, groups_of(models, federation)
        pool = draw_pool(people, round_.index, senders, round_.active)

        def inputs_of(group):
            keys = client_keys(group, round_.index, Purpose.BATCH_ORDER)
            return keys, group.train.indices, group.train.counts

        trained, (totals, weights), loss = run_groups(
            lambda model: partial(one_client, model),
            models,
            state.clients,
            federation,
            inputs_of,
            per_point(hparams, people),
            (federation.table,),
            pool.member,
            execution,
        )
        clients = tuple(
            replace(
                part,
                meme=handed_out(
                    totals, weights, part.meme, people.point[members], pool.member[members]
                ),
            )
            for part, members in zip(trained, groups, strict=True)
        )
        per_example = by_architecture(flops, groups, people.n_clients)
        counts = jnp.where(pool.member, people.train.counts, 0).astype(jnp.float32)
        sent = jnp.full(people.n_clients, travels.bits, jnp.float32)
        phases = there_and_back(pool, people.point, counts * per_example, sent)
        executed = executed_in_groups(people, groups, pool.member, batch_size, execution)
        report = RoundReport(
            loss=loss,
            work_flops=phases[0].work_flops,
            executed_flops=executed * per_example,
            uplink_bits=phases[1].uplink_bits + phases[2].uplink_bits,
            downlink_bits=phases[1].downlink_bits + phases[2].downlink_bits,
            phases=phases,
        )
        return State(server=(), clients=settled(clients, execution, axis="clients")), report

    def predict(state: State, federation: Federation) -> Predictors:
        private = tuple(part.private for part in state.clients)
        memes = tuple(part.meme for part in state.clients)
        return {
            "private": own_models(models, private, federation),
            "meme": own_models((meme,) * len(models), memes, federation),
        }

    return Method(init, round_, predict, THERE_AND_BACK, has_roles=True)
