"""A server-side logit ensemble: what on-device KD argues against, on the same clients and steps.

The server collects the clients' models and unlabelled data and distils the ensemble there, as
ensemble distillation does (FedDF: Lin et al. 2020, arXiv:2006.07242, with the clients' own data in
the place of public data). On-device KD (Lim et al. 2025, arXiv:2503.11151) objects that the data
leave the devices, and that soft labels of local models are spoilt by each client's bias. Which
server-side methods that paper compares with we could not establish, so this is our construction
and no re-implementation of one of its rows.

State: the auxiliary model and the target of each server; how many examples each client sent it.
Round t, with A_t the sampled clients, S the strong ones, U the union of their unlabelled rows:

    1. k in A_t:  w_s,k <- H steps of SGD on CE over D_k, from w_s;  w_s <- mean
    2. k in S:    w_l,k <- H steps of SGD on CE over D_k, from w_l;  w_l <- mean
    3. server:    w_l   <- H' steps on omega(t) T^2 KL(mean_k w_s,k(x) || w_l(x)) over U

Steps 1 and 2 are those of on-device KD without its second half: the same draws, batches and means.
The teacher of step 3 is the mean of the logits of this round's local auxiliary models, not their
average model. The server starts every round with velocity zero. A strong client that is away leaves
its rows out of U for the round, whether it has handed them over before or not, so that a round
depends on its participants alone; with everybody there it makes no difference.
"""

from dataclasses import replace
from functools import lru_cache
from typing import Literal

import jax
import jax.numpy as jnp
from flax import struct

from fedjax_kd.clients import Population, Purpose, draw_key, per_point, select
from fedjax_kd.methods.contract import (
    Federation,
    Method,
    PhaseReport,
    Predictor,
    Predictors,
    Round,
    RoundReport,
    State,
    logits_of,
)
from fedjax_kd.methods.on_device_kd import Models, initial_models
from fedjax_kd.methods.on_device_kd_costs import (
    auxiliary_costs,
    examples_in_steps,
    in_total,
    target_costs,
)
from fedjax_kd.methods.on_device_kd_steps import auxiliary_step, distillation_weight, target_step
from fedjax_kd.methods.weak_and_strong import (
    Seats,
    TeacherStatistics,
    Training,
    Weighting,
    check_choices,
    check_counts,
    check_models,
    decayed_sgd,
    of_everybody,
    sampled,
    soft_loss,
    strong_seats,
    teacher_of,
)
from fedjax_kd.models import Model, profile
from fedjax_kd.training import Execution, Rates, local_steps, run_clients, settled

SERVER = 2**32 - 1  # no user has this number: the server's draws are its own


@struct.dataclass
class ServerEnsembleRates:
    """Traced hyper-parameters of the server-side ensemble.

    Attributes:
        auxiliary: rates of the auxiliary model's SGD.
        target: rates of the target's SGD at the clients.
        server: rates of the target's SGD at the server.
        temperature: T > 0.
        weight: w >= 0, the soft loss's weight when the ramp is over.
        ramp_rounds: R, length of the ramp; 0 for none.
    """

    auxiliary: Rates
    target: Rates
    server: Rates
    temperature: jax.Array
    weight: jax.Array
    ramp_rounds: jax.Array


@lru_cache(maxsize=64)  # equal arguments give one method, and so one compiled program
def server_ensemble(
    auxiliary: Model,
    target: Model,
    *,
    strong: int,
    cohort: int | None,
    steps: int,
    server_steps: int,
    batch_size: int,
    raw_bits_per_example: int,
    execution: Execution,
    upload: Literal["once", "never"] = "once",
    kd_weight: Literal["ramp", "constant"] = "ramp",
    teacher_statistics: TeacherStatistics = "batch",
    weighting: Weighting = "uniform",
) -> Method:
    """The ensemble of two architectures; its hyper-parameters are `ServerEnsembleRates`.

    `State.server` holds `Models`, `State.clients` int32 [K], how many unlabelled examples of each
    client the server was sent.

    Args:
        auxiliary: the small architecture, which every client trains.
        target: the large one, which strong clients and the server train.
        strong: users 0 to `strong - 1` of each study point are the strong ones.
        cohort: clients per study point drawn for step 1 in each round; None for all.
        steps: H, optimiser steps of a client per phase.
        server_steps: H', optimiser steps of the server per round.
        batch_size: examples per step, at clients and servers.
        raw_bits_per_example: what handing over an unlabelled example takes.
        execution: how clients are run; servers are run like it, side by side.
        upload: whether a strong client hands its unlabelled rows over in the first round that it
            takes part in, or the server has them anyway, as it would have public data.
        kd_weight: whether the soft loss's weight ramps up or is constant.
        teacher_statistics: of teachers with batch normalisation: those of the batch at hand or
            their running ones.
        weighting: of clients in the means of steps 1 and 2.

    Returns:
        A method.

    Raises:
        ValueError: if an option is none of those above, or the two models do not fit together.
    """
    check_choices(
        ("upload", upload, ("once", "never")),
        ("kd_weight", kd_weight, ("ramp", "constant")),
        ("teacher_statistics", teacher_statistics, ("batch", "running")),
        ("weighting", weighting, ("uniform", "examples")),
    )
    check_models(auxiliary, target)
    check_counts(
        strong=strong,
        cohort=cohort,
        steps=steps,
        server_steps=server_steps,
        batch_size=batch_size,
        raw_bits_per_example=raw_bits_per_example,
    )
    training = Training(steps, batch_size, weighting, execution)
    example_flops = float(profile(target).training_flops)
    member_flops = float(profile(auxiliary).forward_flops)

    def init(federation: Federation) -> State:
        models = initial_models(auxiliary, target, federation)
        nothing = jnp.zeros(federation.people.n_clients, jnp.int32)
        return State(
            server=settled(models, execution, axis="study"),
            clients=settled(nothing, execution, axis="clients"),
        )

    def round_(
        state: State, federation: Federation, hparams: ServerEnsembleRates, round_: Round
    ) -> tuple[State, RoundReport]:
        people, index = federation.people, round_.index
        values = per_point(hparams, people)
        drawn = sampled(people, index, cohort, round_.active)
        first = auxiliary_step(
            auxiliary,
            state.server.auxiliary,
            values.auxiliary,
            federation,
            index,
            drawn,
            training,
            keep=True,
        )
        seats = strong_seats(people, strong, round_.active)
        second = target_step(
            (auxiliary, target, teacher_statistics),
            state.server.target,
            values.target,
            (),
            federation,
            index,
            seats,
            training,
        )
        omega = distillation_weight(values, index, kd_weight)
        members = drawn.present & (people.train.counts[drawn.positions] > 0)
        members = members.reshape(people.n_points, -1)
        rows, counts = pooled_rows(people, seats)
        distilled = distil_at_servers(
            second.models,
            jax.tree.map(lambda leaf: leaf.reshape(*members.shape, *leaf.shape[1:]), first.kept),
            members,
            (rows, counts),
            values,
            omega,
            federation,
            index,
        )
        models = settled(Models(first.models, distilled), execution, axis="study")
        held, raw_bits = hand_over(state.clients, people, seats)
        report = _report(people, first, second, members, counts, raw_bits, omega)
        return State(models, settled(held, execution, axis="clients")), report

    def distil_at_servers(models, teachers, members, pool, values, omega, federation, index):
        def one_server(model, inputs, table):
            key, teachers, members, (rows, count), values, temperature, weight = inputs
            optimiser = decayed_sgd(values, model["params"])
            params, stats, _, loss = local_steps(
                key,
                model["params"],
                model["stats"],
                optimiser.init(model["params"]),
                count,
                soft_loss(target, mean_of(teachers, members), table, rows, temperature, weight),
                optimiser,
                capacity=rows.shape[0],
                steps=server_steps,
                batch_size=batch_size,
            )
            return {"params": params, "stats": stats}, loss

        def own_key(root):
            return jax.random.fold_in(draw_key(root, index, Purpose.DISTIL_ORDER), SERVER)

        keys = jax.vmap(own_key)(federation.people.roots)
        inputs = keys, teachers, members, pool, values.server, values.temperature, omega
        some = jnp.any(members, axis=1)
        distilled, _ = run_clients(one_server, models, inputs, federation.table, some, execution)
        return distilled

    def mean_of(teachers, members):
        """Mean logits of those teachers [M, ...] that are there, one after the other."""
        order = jnp.argsort(jnp.logical_not(members), stable=True)
        count = jnp.sum(members, dtype=jnp.int32)

        def teach(inputs, mask):
            def add(place, total):
                one = jax.tree.map(lambda leaf: leaf[order[place]], teachers)
                return total + teacher_of(auxiliary, one, teacher_statistics)(inputs, mask)

            blank = jnp.zeros((inputs.shape[0], auxiliary.n_classes), jnp.float32)
            total = jax.lax.fori_loop(0, count, add, blank)
            return total / jnp.maximum(count, 1).astype(jnp.float32)

        return teach

    def hand_over(held: jax.Array, people: Population, seats: Seats):
        if upload == "never":
            return held, jnp.zeros(people.n_clients, jnp.float32)
        here = of_everybody(seats.present, seats, people.n_clients)
        new = jnp.where(here, jnp.maximum(people.unlabelled.counts - held, 0), 0)
        return held + new, new.astype(jnp.float32) * raw_bits_per_example

    def _report(people, first, second, members, counts, raw_bits, omega):
        small = auxiliary_costs(auxiliary, people, first.seats, training)
        phase, executed = target_costs(
            auxiliary, target, people, second.seats, training, labelled=True, distils=False
        )
        large = replace(phase, uplink_bits=phase.uplink_bits + raw_bits), executed
        teachers = jnp.sum(members, axis=1, dtype=jnp.int32).astype(jnp.float32)
        flops = jnp.where(teachers > 0, example_flops + teachers * member_flops, 0.0)
        nothing = jnp.zeros(people.n_clients, jnp.float32)
        ensemble = PhaseReport(
            work_flops=nothing,
            uplink_bits=nothing,
            downlink_bits=nothing,
            server_flops=flops * examples_in_steps(counts, server_steps, batch_size),
        )
        trained = of_everybody(second.seats.present, second.seats, people.n_clients)
        loss = jnp.where(
            trained,
            of_everybody(second.loss, second.seats, people.n_clients),
            of_everybody(first.loss, first.seats, people.n_clients),
        )
        return in_total(loss, [small, large, (ensemble, nothing)], {"distillation_weight": omega})

    def predict(state: State, federation: Federation) -> Predictors:
        point = federation.people.point
        held = {"target": (target, state.server.target)}
        held["auxiliary"] = (auxiliary, state.server.auxiliary)
        return {
            name: (Predictor(stack=stack, row=point, logits=logits_of(model)),)
            for name, (model, stack) in held.items()
        }

    phases = ("auxiliary", "target", "ensemble")
    return Method(init, round_, predict, phases, has_roles=True)


def pooled_rows(people: Population, seats: Seats) -> tuple[jax.Array, jax.Array]:
    """The unlabelled rows of each point's seated clients as one: int32 [S, P] and counts [S]."""
    members = select(people, seats.positions).unlabelled
    counts = jnp.where(seats.present, members.counts, 0)
    held = jnp.arange(members.indices.shape[1])[None, :] < counts[:, None]
    rows = members.indices.reshape(people.n_points, -1)
    order = jnp.argsort(~held.reshape(people.n_points, -1), axis=1, stable=True)
    totals = jnp.sum(counts.reshape(people.n_points, -1), axis=1, dtype=jnp.int32)
    return jnp.take_along_axis(rows, order, axis=1), totals
