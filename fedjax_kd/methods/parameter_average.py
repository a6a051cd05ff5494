"""Servers that average parameters: clients receive a model, train it and send what became of it.

McMahan et al. 2017, arXiv:1602.05629, Algorithm 1, inside each architecture by itself, as Lin et
al. 2020 (FedDF, arXiv:2006.07242) do where there are several:

    theta_a <- sum_k n_k theta_k / sum_k n_k    over the participants k of architecture a

Running statistics of batch normalisation are averaged like parameters. An architecture without a
participant keeps its average. Groups of one architecture that a federation tells apart are averaged
apart.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import reduce
from operator import add
from typing import Any, NamedTuple

import jax

from fedjax_kd.clients import Purpose, draw_key, select, whole_axis
from fedjax_kd.exchange import Channel, exact
from fedjax_kd.methods.architectures import (
    by_architecture,
    groups_of,
    init_per_point,
    weighted_mean,
)
from fedjax_kd.methods.client_work import (
    AtHand,
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
from fedjax_kd.methods.parameter_upload import optimiser_of, send_parameters, start_memory
from fedjax_kd.models import Model, profile
from fedjax_kd.training import settled

Tree = Any


class Averaged(NamedTuple):
    """What a round of training and averaging leaves.

    Attributes:
        averages: variables [S, ...], in the form in which they were given.
        clients: what the channel remembers, in the form in which it was given.
        loss: float32 [K], zeros for inactive clients.
        uplink_bits: float32 [K], zeros for inactive clients.
        sums: what `also` gave, summed over the clients of all architectures, [S, ...].
    """

    averages: Tree
    clients: Tree
    loss: jax.Array
    uplink_bits: jax.Array
    sums: Tree


def start_averages(
    models: Model | Sequence[Model],
    federation: Federation,
    training: Training,
    upload: Channel = exact(),  # noqa: B008
) -> State:
    """The servers' initial models, and what the channel remembers before the first upload.

    Args:
        models: one for all, or one per group of the federation.
        federation: K clients at S points.
        training: static.
        upload: what the models go through.

    Returns:
        `server` holds the variables [S, ...] of the one model, or a tuple with those of each group,
        which start as `local`'s clients do; `clients` holds what the channel remembers, one pytree
        [K_g, ...] per group, and is `()` for a single model where that is nothing.
    """
    found, people = as_models(models), federation.people
    groups = groups_of(found, federation)
    if isinstance(models, Model):
        server = jax.vmap(lambda root: models.init(draw_key(root, 0, Purpose.INIT)))(people.roots)
    else:
        server = tuple(init_per_point(model, g, people) for g, model in enumerate(found))
    memories = tuple(
        start_memory(upload, held, len(members))
        for held, members in zip(_each(models, server), groups, strict=True)
    )
    nothing = isinstance(models, Model) and not jax.tree.leaves(memories)
    return state_of(server, () if nothing else memories, training.execution)


def train_and_average(
    loss_of: Callable[[Model, AtHand], Loss],
    models: Model | Sequence[Model],
    averages: Tree,
    clients: Tree,
    federation: Federation,
    round_: Round,
    training: Training,
    *,
    hparams: Tree,
    upload: Channel = exact(),  # noqa: B008
    also: Callable[[Model, Tree, AtHand], Tree] | None = None,
    shared: Tree = (),
) -> Averaged:
    """One round: every participant trains its architecture's average, the servers average anew.

    Args:
        loss_of: the loss of a client of a model; `at.server` is the model that it has received.
        models: one for all, or one per group of the federation.
        averages: variables [S, ...] of the one model, or a tuple with those of each group.
        clients: what the channel remembers, as `start_averages` makes it.
        federation: K clients at S points.
        round_: which round, and who takes part.
        training: static.
        hparams: `Rates`, or a struct with the fields `optimiser` (`Rates`) and `upload` (the
            channel's numbers); leaves are scalars or [S].
        upload: what the models go through.
        also: `(model, variables, at) -> message`, what the server makes of one client's model as it
            has arrived (its logits of public examples, say), to be summed over the participants of
            all architectures; so the message has one structure and shape for all of them, and what
            a mean is to be divided by is part of it. Costs are the caller's to report.
        shared: pytree that every client sees whole, for `also`.

    Returns:
        The averages, and what came with them.

    Raises:
        ValueError: if a single model is to be looked at through a secure sum.
    """
    if also is not None and upload.sum_only:
        raise ValueError(
            "upload: found a secure sum; allowed: channels through which the server sees each model"
        )

    def client_of(model: Model):
        def client(memory, at: AtHand):
            trained, loss = at.train(at.server, loss_of(model, at), optimiser_of(at.numbers))
            arrived = send_parameters(upload, memory, at.server, trained, at.weight, at)
            extra = () if also is None else also(model, arrived.model, at)
            return arrived.memory, (arrived.weighted, at.weight, extra), (loss, arrived.bits)

        return client

    alone, found, people = isinstance(models, Model), as_models(models), federation.people
    groups, held = groups_of(found, federation), _each(models, averages)
    new, kept, sums, outputs = [], [], [], []
    for g, (model, members) in enumerate(zip(found, groups, strict=True)):
        part, active = federation, round_.active
        if federation.groups:
            part = replace(federation, people=select(people, members), groups=())
            active = active[members]
        memory, (totals, weights, extra), output = each_client(
            client_of,
            (model,),
            clients[g : g + 1],
            part,
            Round(round_.index, active),
            training,
            hparams=hparams,
            servers=held[g],
            shared=shared,
        )
        new.append(weighted_mean(totals, weights, held[g]))
        kept.append(memory[0])
        sums.append(extra)
        outputs.append(output)
    loss, bits = whole_axis(tuple(outputs), groups, people.n_clients)
    return Averaged(
        averages=settled(new[0] if alone else tuple(new), training.execution, axis="study"),
        clients=tuple(kept) if clients else (),
        loss=loss,
        uplink_bits=bits,
        sums=jax.tree.map(lambda *leaves: reduce(add, leaves), *sums),
    )


def averaging(
    loss_of: Callable[[Model, AtHand], Loss],
    models: Model | Sequence[Model],
    training: Training,
    upload: Channel,
) -> Method:
    """The method that is nothing but `train_and_average` with this loss, of the view `model`.

    Args:
        loss_of: as for `train_and_average`, and so the others.
        models: one for all, or one per group of the federation.
        training: static.
        upload: what the models go through.

    Raises:
        ValueError: if the models differ in their inputs or classes.
    """
    found = as_models(models)
    flops = tuple(float(training.epochs * profile(model).training_flops) for model in found)

    def init(federation: Federation) -> State:
        return start_averages(models, federation, training, upload)

    def round_(
        state: State, federation: Federation, hparams: Any, round_: Round
    ) -> tuple[State, RoundReport]:
        averaged = train_and_average(
            loss_of,
            models,
            state.server,
            state.clients,
            federation,
            round_,
            training,
            hparams=hparams,
            upload=upload,
        )
        report = one_phase(
            found,
            federation,
            round_.active,
            training,
            averaged.loss,
            flops_per_example=flops,
            uplink_bits=averaged.uplink_bits,
            downlink_bits=bits_to_send(found, federation),
        )
        return State(averaged.averages, averaged.clients), report

    def predict(state: State, federation: Federation) -> Predictors:
        return {"model": predict_averages(models, state.server, federation)}

    return Method(init, round_, predict)


def bits_to_send(models: Sequence[Model], federation: Federation) -> jax.Array:
    """float32 [K]: what sending every client its architecture takes."""
    bits = tuple(float(profile(model).bits) for model in models)
    return by_architecture(bits, groups_of(models, federation), federation.people.n_clients)


def predict_averages(
    models: Model | Sequence[Model], averages: Tree, federation: Federation
) -> tuple[Predictor, ...]:
    """Every client predicts with its architecture's average; arguments as `train_and_average`."""
    point = federation.people.point
    if isinstance(models, Model):
        return (Predictor(averages, point, logits=logits_of(models)),)
    return tuple(
        Predictor(average, point[members], members, logits_of(model))
        for model, average, members in zip(
            models, averages, groups_of(models, federation), strict=True
        )
    )


def _each(models: Model | Sequence[Model], averages: Tree) -> tuple[Tree, ...]:
    """The averages of each group, where those of a single model stand by themselves."""
    return (averages,) if isinstance(models, Model) else averages
