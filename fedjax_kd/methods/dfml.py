"""DFML: models of any architectures meet at one client after another and teach each other there.

Khalil et al. 2024, "DFML: Decentralized Federated Mutual Learning", arXiv:2402.01863. There is no
server and no public data, and what travels are whole models. Round t:

    a <- a client drawn uniformly, the aggregator;  S <- senders, drawn from the others
    every s in S sends its model W_s to a
    for each epoch, for each batch (x, y) of a's training examples, all i of S and a at once:
        W_i <- W_i - rate * grad[(1 - alpha) L_sup(W_i(x), y) + alpha T^2 L_KL(W_i(x))]
    a returns W_s to every s;  a and S refresh their peak models, see `dfml_cycle`

L_sup is the re-weighted softmax cross entropy with the class shares of the aggregator's training
examples. L_KL is the mean over the peers of KL(peer || model), with the peers as fixed targets,
from the logits that all models have before the step. alpha follows the cycle of the round.

Confirmed of the paper: roles, objective, the re-weighted softmax, the cycles, the peak models, and
nothing that averages parameters. No code is released, so the rest is our reconstruction: training
at the aggregator alone and not before sending, peers weighed alike, temperature 1, the plain
softmax in L_KL, an optimiser that starts afresh each round. The alternatives are options.

With BatchNorm, each model of the pool is normalised by the aggregator's batch, and takes running
statistics home that have moved towards the aggregator's data; GroupNorm avoids the question. An
aggregator that nobody can send to learns alone, without L_KL.
"""

from functools import lru_cache
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from flax import struct

from fedjax_kd.clients import Purpose, client_keys, per_point, select, whole_axis
from fedjax_kd.methods.architectures import (
    by_architecture,
    check_tasks,
    executed_in_groups,
    groups_of,
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
from fedjax_kd.methods.dfml_cycle import (
    PeakMemory,
    Schedule,
    alpha_at,
    blank_memory,
    checked_schedule,
    place_of,
    remember_peak,
)
from fedjax_kd.methods.dfml_extras import averaged_within, chosen, shares_of_rows, trained_at_home
from fedjax_kd.methods.dfml_loss import Lecture, Supervision, pool_loss
from fedjax_kd.methods.dfml_phases import (
    PHASES,
    PHASES_WITH_LOCAL,
    at_aggregator,
    there_taught_and_back,
)
from fedjax_kd.methods.pool import Pool, checked_senders, draw_pool
from fedjax_kd.models import Model, profile
from fedjax_kd.training import Execution, Rates, settled
from fedjax_kd.training.pool_loop import Learnt, Lessons, Seats, train_pools

PeerWeight = Literal["uniform", "num_samples", "num_params"]


@struct.dataclass
class DfmlRates:
    """Traced hyper-parameters of DFML.

    Attributes:
        optimiser: rates of SGD at the aggregator, and at home with local epochs.
        alpha_max: the largest weight of distillation, in [0, 1].
        temperature: T > 0.
        peak_floor: in [0, 1], how much of a cycle's largest alpha a round needs to refresh peak
            models after the first cycle.
    """

    optimiser: Rates
    alpha_max: jax.Array
    temperature: jax.Array
    peak_floor: jax.Array


@struct.dataclass
class Clients:
    """What the clients of one architecture keep.

    Attributes:
        models: variables [K_g, ...], the regular models.
        peaks: variables [K_g, ...], the peak models.
        memory: PeakMemory [K_g].
    """

    models: Any
    peaks: Any
    memory: PeakMemory


@lru_cache(maxsize=64)  # equal arguments give one method, and so one compiled program
def dfml(
    models: tuple[Model, ...],
    *,
    senders: int,
    epochs: int,
    batch_size: int,
    execution: Execution,
    schedule: Schedule = Schedule(),  # noqa: B008
    local_epochs: int = 0,
    peer_weight: PeerWeight = "uniform",
    supervision: Supervision = "weighted_softmax",
    intra_architecture_average: bool = False,
) -> Method:
    """DFML of several architectures; its hyper-parameters are `DfmlRates`.

    `State.server` is empty, `State.clients` holds the `Clients` of every group. Everybody draws a
    first model of its own.

    Args:
        models: an architecture for each group of the federation, or one for all clients.
        senders: how many clients send to an aggregator, at least 1.
        epochs: of mutual learning over the aggregator's examples.
        batch_size: examples per step.
        execution: how the members of the pools are run.
        schedule: of alpha over the rounds.
        local_epochs: of supervised training at home before sending, for aggregators too.
        peer_weight: of a peer in L_KL: alike, by its training examples or by its parameters.
        supervision: the loss against the labels.
        intra_architecture_average: whether members of one architecture and point leave with the
            mean of their models; an addition of ours.

    Returns:
        A method with the views `peak` and `regular`.

    Raises:
        ValueError: if an option is none of the above, or the models differ in inputs or classes.
    """
    check_tasks(models)
    checked_senders(senders)
    checked_schedule(schedule)
    _check_options(epochs, local_epochs, peer_weight, supervision)
    losses = pool_loss(supervision)
    costs = [profile(model) for model in models]

    def init(federation: Federation) -> State:
        clients = []
        for model, members in zip(models, groups_of(models, federation), strict=True):
            keys = client_keys(select(federation.people, members), 0, Purpose.INIT)
            drawn = jax.vmap(model.init)(keys)
            kept = Clients(drawn, drawn, blank_memory(members.shape[0]))
            clients.append(settled(kept, execution, axis="clients"))
        return State(server=(), clients=tuple(clients))

    def lessons_of(federation, hparams, index, pool: Pool, alpha) -> Lessons:
        people, taught_by = federation.people, pool.aggregator
        keys = client_keys(people, index, Purpose.BATCH_ORDER)[taught_by]
        rows = people.train.indices[taught_by]
        counts = jnp.where(pool.present, people.train.counts[taught_by], 0)
        shares = jax.vmap(shares_of_rows, in_axes=(None, 0, 0, None))(
            federation.table, rows, counts, models[0].n_classes
        )
        values = per_point(hparams, people)
        lecture = Lecture(alpha, values.temperature, shares)
        return Lessons(keys, rows, counts, values.optimiser, lecture)

    def weights_of(people, cost):
        if peer_weight == "num_samples":
            return people.train.counts.astype(jnp.float32)
        weight = float(cost.parameters) if peer_weight == "num_params" else 1.0
        return jnp.full(people.n_clients, weight, jnp.float32)

    def round_(
        state: State, federation: Federation, hparams: DfmlRates, round_: Round
    ) -> tuple[State, RoundReport]:
        people, groups = federation.people, groups_of(models, federation)
        pool = draw_pool(people, round_.index, senders, round_.active)
        place = place_of(schedule, round_.index)
        alpha_max = per_point(hparams.alpha_max, people)
        alpha = alpha_at(schedule, place, place.round, alpha_max)
        highest = alpha_at(schedule, place, place.peak, alpha_max)
        floor = per_point(hparams.peak_floor, people)
        parts = [select(people, members) for members in groups]
        pools = [pool.member[members] for members in groups]

        stacks = [clients.models for clients in state.clients]
        if local_epochs:
            stacks = [
                trained_at_home(
                    model,
                    stack,
                    part,
                    federation.table,
                    hparams.optimiser,
                    round_.index,
                    member,
                    losses,
                    execution,
                    epochs=local_epochs,
                    batch_size=batch_size,
                )
                for model, stack, part, member in zip(models, stacks, parts, pools, strict=True)
            ]
        learnt = train_pools(
            models,
            tuple(stacks),
            tuple(
                Seats(part.point, part.user, member, weights_of(part, cost))
                for part, member, cost in zip(parts, pools, costs, strict=True)
            ),
            lessons_of(federation, hparams, round_.index, pool, alpha),
            federation.table,
            losses.answer,
            losses.loss,
            execution,
            epochs=epochs,
            batch_size=batch_size,
            largest=senders + 1,
        )
        clients = []
        for old, new, part, member in zip(state.clients, learnt, parts, pools, strict=True):
            now = new.models
            if intra_architecture_average:
                now = averaged_within(now, part, member, execution)
            values = [leaf[part.point] for leaf in (alpha, highest, floor)]
            memory, refreshed = remember_peak(old.memory, member, place, *values)
            clients.append(Clients(now, chosen(refreshed, now, old.peaks), memory))
        report = _report(federation, pool, learnt, alpha)
        return State((), settled(tuple(clients), execution, axis="clients")), report

    def _report(federation: Federation, pool: Pool, learnt: tuple[Learnt, ...], alpha):
        people, groups = federation.people, groups_of(models, federation)
        n_clients, counts = people.n_clients, people.train.counts.astype(jnp.float32)
        training = by_architecture([cost.training_flops for cost in costs], groups, n_clients)
        bits = by_architecture([cost.bits for cost in costs], groups, n_clients)
        learning = epochs * counts * at_aggregator(training, pool, people.point)
        at_home = None
        examples = whole_axis(tuple(part.executed for part in learnt), groups, n_clients)
        executed = at_aggregator(examples * training, pool, people.point)
        if local_epochs:
            at_home = jnp.where(pool.member, counts * training * local_epochs, 0.0)
            spent = executed_in_groups(people, groups, pool.member, batch_size, execution)
            executed = executed + spent * training * local_epochs
        phases = there_taught_and_back(pool, people.point, at_home, learning, bits)
        users = people.user[pool.aggregator].astype(jnp.float32)
        return RoundReport(
            loss=whole_axis(tuple(part.loss for part in learnt), groups, n_clients),
            work_flops=sum((phase.work_flops for phase in phases), jnp.zeros(n_clients)),
            executed_flops=executed,
            uplink_bits=sum((phase.uplink_bits for phase in phases), jnp.zeros(n_clients)),
            downlink_bits=sum((phase.downlink_bits for phase in phases), jnp.zeros(n_clients)),
            phases=phases,
            extra={"alpha": alpha, "aggregator": jnp.where(pool.present, users, -1.0)},
        )

    def predict(state: State, federation: Federation) -> Predictors:
        def view(stacks):
            groups = groups_of(models, federation)
            return tuple(
                Predictor(
                    stack=stack,
                    row=jnp.arange(members.shape[0], dtype=jnp.int32),
                    logits=logits_of(model),
                    clients=members,
                )
                for model, stack, members in zip(models, stacks, groups, strict=True)
            )

        return {
            "peak": view(clients.peaks for clients in state.clients),
            "regular": view(clients.models for clients in state.clients),
        }

    phases = PHASES_WITH_LOCAL if local_epochs else PHASES
    return Method(init, round_, predict, phases, has_roles=True)


def _check_options(epochs, local_epochs, peer_weight, supervision) -> None:
    for name, value, allowed in (
        ("peer_weight", peer_weight, get_args(PeerWeight)),
        ("supervision", supervision, get_args(Supervision)),
    ):
        if value not in allowed:
            raise ValueError(f"{name} must be one of {', '.join(allowed)}; got {value!r}")
    for name, value, least in (("epochs", epochs, 1), ("local_epochs", local_epochs, 0)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{name} must be an integer of at least {least}; got {value!r}")
