"""The two steps of on-device KD, which its baselines take too.

The algorithm is written down in `fedjax_kd.methods.on_device_kd`.
"""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_kd.clients import Purpose, client_keys, select
from fedjax_kd.distill.ramp_up import ramp_up
from fedjax_kd.methods.contract import Federation
from fedjax_kd.methods.weak_and_strong import (
    Seats,
    TeacherStatistics,
    Training,
    decayed_sgd,
    labelled_loss,
    moved,
    soft_loss,
    teacher_of,
    weight_of,
    weighted_change,
)
from fedjax_kd.models import Model
from fedjax_kd.training import Rates, local_steps, sum_over_clients


class Step(NamedTuple):
    """What a step of the algorithm leaves.

    Attributes:
        models: variables [S, ...], aggregated.
        seats: who trained.
        loss: float32 [M], mean loss over a client's last phase of labelled steps (of the soft ones
            with `kd_only`).
        kept: variables [M, ...] of the clients' own models, or `()`.
    """

    models: Any
    seats: Seats
    loss: jax.Array
    kept: Any = ()


def distillation_weight(
    values: Any, index: jax.Array, kd_weight: Literal["ramp", "constant"]
) -> jax.Array:
    """omega(t), float32 [S], of hyper-parameters with `weight` and `ramp_rounds` [S]."""
    if kd_weight == "constant":
        return values.weight
    return values.weight * ramp_up(index, values.ramp_rounds)


def auxiliary_step(
    model: Model,
    models: Any,
    values: Rates,
    federation: Federation,
    index: jax.Array,
    seats: Seats,
    training: Training,
    *,
    keep: bool = False,
) -> Step:
    """Step 1: the sampled clients train the auxiliary model on their labelled rows.

    Args:
        model: the auxiliary architecture.
        models: variables [S, ...], w_s.
        values: rates [S].
        federation: the examples and the clients.
        index: int32 scalar, the round.
        seats: A_t.
        training: how.
        keep: whether the clients' own models are wanted too.

    Returns:
        The new w_s.
    """

    def one_client(inputs, server, shared):
        key, rows, count = inputs
        start, values = server
        optimiser = decayed_sgd(values, start["params"])
        params, stats, _, loss = local_steps(
            key,
            start["params"],
            start["stats"],
            optimiser.init(start["params"]),
            count,
            labelled_loss(model, shared, rows),
            optimiser,
            capacity=rows.shape[0],
            steps=training.steps,
            batch_size=training.batch_size,
        )
        trained = {"params": params, "stats": stats}
        message = weighted_change(trained, start, weight_of(count, training.weighting))
        return message, (loss, trained if keep else ())

    people = select(federation.people, seats.positions)
    keys = client_keys(people, index, Purpose.BATCH_ORDER)
    message, (loss, kept) = sum_over_clients(
        one_client,
        (keys, people.train.indices, people.train.counts),
        (models, values),
        federation.table,
        people.point,
        seats.present,
        training.execution,
        work=jnp.minimum(people.train.counts, 1),  # equally many steps, or none
    )
    return Step(moved(models, message), seats, loss, kept)


def target_step(
    architectures: tuple[Model, Model, TeacherStatistics],
    models: Any,
    values: Rates,
    teaching: tuple[Any, jax.Array, jax.Array] | tuple[()],
    federation: Federation,
    index: jax.Array,
    seats: Seats,
    training: Training,
    *,
    labelled: bool = True,
) -> Step:
    """Step 2: the strong clients train the target, first by labels and then by the teacher.

    Args:
        architectures: auxiliary, target, and which statistics the teacher normalises by.
        models: variables [S, ...], w_l.
        values: rates [S].
        teaching: the teachers [S, ...], temperatures [S] and weights [S] of the soft loss; `()` for
            no second phase.
        federation: the examples and the clients.
        index: int32 scalar, the round.
        seats: the strong clients.
        training: how.
        labelled: whether there is a first phase.

    Returns:
        The new w_l.
    """
    auxiliary, target, statistics = architectures

    def one_client(inputs, server, table):
        key, (rows, count), (soft_rows, soft_count) = inputs
        start, values, teaching = server
        optimiser = decayed_sgd(values, start["params"])
        params, stats, velocity = start["params"], start["stats"], optimiser.init(start["params"])
        loss, seen = jnp.float32(0), jnp.int32(0)
        if labelled:
            params, stats, velocity, loss = local_steps(
                jax.random.fold_in(key, 0),
                params,
                stats,
                velocity,
                count,
                labelled_loss(target, table, rows),
                optimiser,
                capacity=rows.shape[0],
                steps=training.steps,
                batch_size=training.batch_size,
            )
            seen += count
        if teaching:
            teacher, temperature, weight = teaching
            teach = teacher_of(auxiliary, teacher, statistics)
            params, stats, velocity, divergence = local_steps(
                jax.random.fold_in(key, 1),
                params,
                stats,
                velocity,
                soft_count,
                soft_loss(target, teach, table, soft_rows, temperature, weight),
                optimiser,
                capacity=soft_rows.shape[0],
                steps=training.steps,
                batch_size=training.batch_size,
            )
            seen += soft_count
            loss = loss if labelled else divergence
        trained = {"params": params, "stats": stats}
        return weighted_change(trained, start, weight_of(seen, training.weighting)), loss

    people = select(federation.people, seats.positions)
    train, unlabelled = people.train, people.unlabelled
    work = jnp.zeros_like(train.counts)  # phases with something to do: each takes equal steps
    work += jnp.minimum(train.counts, 1) if labelled else 0
    work += jnp.minimum(unlabelled.counts, 1) if teaching else 0
    message, loss = sum_over_clients(
        one_client,
        (
            client_keys(people, index, Purpose.DISTIL_ORDER),
            (train.indices, train.counts),
            (unlabelled.indices, unlabelled.counts),
        ),
        (models, values, teaching),
        federation.table,
        people.point,
        seats.present,
        training.execution,
        work=work,
    )
    return Step(moved(models, message), seats, loss)
