"""Rounds in which clients send scores on public examples and learn from the servers' common ones.

Two passes over the clients: they work and send scores through a channel, the servers make common
scores of what arrives, and the clients fit their models to those and work again. Taking means costs
a server some P C additions a client, which are not counted beside the training of networks.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from fedjax_kd.clients import Purpose, per_point
from fedjax_kd.data import IndexTable
from fedjax_kd.exchange import (
    Channel,
    PublicScores,
    bits_of,
    by_server,
    coordinate_median,
    fit_student,
    memory_of_clients,
    numbers_of,
    rows_of_scores,
    scores_of,
    scores_of_rows,
    trimmed_mean,
)
from fedjax_kd.exchange.channel import Stage
from fedjax_kd.exchange.class_table import BITS_PER_VALUE
from fedjax_kd.exchange.fit import Loss
from fedjax_kd.exchange.payload import Sent
from fedjax_kd.exchange.scores import Kind
from fedjax_kd.methods.architectures import groups_of, init_models
from fedjax_kd.methods.client_work import AtHand, Training, as_models, each_client
from fedjax_kd.methods.contract import Federation, Predictor, Round, RoundReport
from fedjax_kd.methods.local import own_models
from fedjax_kd.methods.on_device_kd_costs import in_total
from fedjax_kd.methods.public_set import (
    a_phase,
    asked_rows,
    check_options,
    check_public,
    fit_at_servers,
    mean_of_shares,
    second_key,
    share,
)
from fedjax_kd.methods.table_uploads import check_choices
from fedjax_kd.models import Model
from fedjax_kd.training import Rates, sgd

Tree = Any
Aggregate = Literal["mean", "median", "trimmed"]


class Exchange(NamedTuple):
    """How scores are exchanged; static.

    Attributes:
        models: one per group.
        training: of the clients, on their own examples.
        kind: what scores are.
        loss: of a model's output against the common scores, see `exchange.row_loss`.
        epochs: of the digest.
        batch_size: public examples per step.
        per_round: P, how many public examples a round asks about; None for all.
        upload: what scores pass on their way to the server.
        aggregate: how the servers make one of them.
        trim: share of the clients that a trimmed mean leaves out at each end.
    """

    models: tuple[Model, ...]
    training: Training
    kind: Kind
    loss: Loss
    epochs: int
    batch_size: int
    per_round: int | None
    upload: Channel
    aggregate: Aggregate = "mean"
    trim: float = 0.0


def exchange_of(
    models: Model | Sequence[Model],
    training: Training,
    kind: Kind,
    loss: Loss,
    *,
    digest_epochs: int,
    public_batch_size: int | None,
    per_round: int | None,
    upload: Channel,
    aggregate: Aggregate = "mean",
    trim: float = 0.0,
) -> Exchange:
    """The same, of what a method is given; `public_batch_size` is by default the clients' own.

    Raises:
        ValueError: if a number is out of range, the models differ in inputs or classes, or a server
            that has to see single uploads is to see their sum.
    """
    check_options(1, batch_size=training.batch_size, per_round=per_round)
    check_options(1, public_batch_size=public_batch_size)
    check_options(epochs=training.epochs, digest_epochs=digest_epochs)
    check_choices(aggregate=(aggregate, Aggregate))
    if not 0 <= trim < 0.5:
        raise ValueError(f"trim must be at least 0 and below 0.5; got {trim!r}")
    if aggregate != "mean" and upload.sum_only:
        raise ValueError(f"upload: found a secure sum with aggregate {aggregate!r}; allowed: mean")
    batch_size = public_batch_size or training.batch_size
    found = as_models(models)
    return Exchange(
        found, training, kind, loss, digest_epochs, batch_size, per_round, upload, aggregate, trim
    )


@struct.dataclass
class Speaker:
    """What the clients of one architecture keep.

    Attributes:
        model: variables [K_g, ...].
        rounds: int32 [K_g], in how many rounds each has spoken.
        memory: what the channel remembers, [K_g, ...].
    """

    model: Any
    rounds: jax.Array
    memory: Any


class Spoken(NamedTuple):
    """What a round leaves.

    Attributes:
        clients: a `Speaker` per group.
        asked: the public rows [S, P] that it was about, and their counts [S].
        common: the servers' scores [S, P, C].
        rows: float32 [S], how many rows the common scores have.
        before: float32 [K], loss of the work before, if it has one.
        after: float32 [K], loss of the work after, if it has one.
        apart: float32 [K], mean loss of the digest's last epoch.
        first: float32 [K], 1 for a participant that had not spoken before.
        uplink_bits: float32 [K].
    """

    clients: tuple[Speaker, ...]
    asked: IndexTable
    common: PublicScores
    rows: jax.Array
    before: Any
    after: Any
    apart: jax.Array
    first: jax.Array
    uplink_bits: jax.Array


def start_speakers(exchange: Exchange, federation: Federation) -> tuple[Speaker, ...]:
    """The clients before they have spoken; models start as those of `Local`."""
    same_rows = Stage.DELTA in exchange.upload.stages
    n_rows = check_public(federation.people, exchange.per_round, same_rows=same_rows)
    blank = jnp.zeros((n_rows, exchange.models[0].n_classes), jnp.float32)
    like = _as_sent(PublicScores(blank, jnp.ones(n_rows, bool)), exchange.kind)
    groups = groups_of(exchange.models, federation)
    return tuple(
        Speaker(
            model=stack,
            rounds=jnp.zeros(len(members), jnp.int32),
            memory=memory_of_clients(exchange.upload, like, len(members)),
        )
        for stack, members in zip(
            init_models(exchange.models, federation.people, groups), groups, strict=True
        )
    )


def speak_and_digest(
    exchange: Exchange,
    before: Callable[[Model, Speaker, AtHand], tuple[Tree, Any]],
    after: Callable[[Model, Tree, AtHand], tuple[Tree, Any]],
    agreed: Callable[[PublicScores, Tree], PublicScores],
    clients: tuple[Speaker, ...],
    federation: Federation,
    round_: Round,
    *,
    hparams: Tree,
    purposes: tuple[Purpose, Purpose],
) -> Spoken:
    """A round: work, scores sent; common scores received and digested, work.

    Args:
        exchange: static.
        before: `(model, own, at) -> (variables, loss)`; `at.server` has all public rows. The loss
            may be `()`, as that of `after`.
        after: `(model, variables, at) -> (variables, loss)`.
        agreed: `(scores [P, C], numbers) -> scores`, what a server makes of the aggregate.
        clients: a `Speaker` per group.
        federation: K clients at S points.
        round_: which round, and who takes part.
        hparams: with the fields `optimiser`, `digest` (`Rates`) and `upload`.
        purposes: what `at.key` is drawn for before and after.

    Returns:
        What it leaves.
    """
    people, upload = federation.people, exchange.upload
    asked = asked_rows(people, round_, exchange.per_round)
    given = (federation, round_, exchange.training)

    def who_speaks(model: Model):
        def client(own: Speaker, at: AtHand):
            asked, public = at.server
            variables, loss = before(model, own, at._replace(server=public))
            values = scores_of(
                model, variables, at.table, asked.indices, asked.counts, kind=exchange.kind
            )
            scores = PublicScores(values, jnp.arange(values.shape[0]) < asked.counts)
            numbers = numbers_of(upload, at.numbers.upload)
            rows = _as_sent(scores, exchange.kind)
            memory, sent = upload.send(at.channel_key, own.memory, numbers, rows)
            first = (own.rounds == 0).astype(jnp.float32)
            arrived = scores_of_rows(sent)
            kept = Speaker(variables, own.rounds + 1, memory)
            single = arrived if exchange.aggregate != "mean" else ()
            return kept, share(arrived), (loss, first, bits_of(sent), single)

        return client

    def who_digests(model: Model):
        def client(own: Speaker, at: AtHand):
            asked, common = at.server
            variables, apart = fit_student(
                second_key(at, Purpose.DISTIL_ORDER),
                own.model,
                asked.indices,
                asked.counts,
                common.values,
                model=model,
                table=at.table,
                loss=exchange.loss,
                optimiser=sgd(at.numbers.digest),
                batch_size=exchange.batch_size,
                epochs=exchange.epochs,
                kind=exchange.kind,
                present=common.mask,
            )
            variables, loss = after(model, variables, at)
            return replace(own, model=variables), (), (loss, apart)

        return client

    first, second = purposes
    clients, total, (loss, new, bits, single) = each_client(
        who_speaks,
        exchange.models,
        clients,
        *given,
        hparams=hparams,
        servers=(asked, people.public),
        purpose=first,
    )
    if exchange.aggregate == "mean":
        found = mean_of_shares(total)
    else:
        found = _robust(exchange, single, round_.active, people.n_points)
    common = jax.vmap(agreed)(found, per_point(hparams, people))
    clients, _, (last, apart) = each_client(
        who_digests,
        exchange.models,
        clients,
        *given,
        hparams=hparams,
        servers=(asked, common),
        purpose=second,
    )
    rows = jnp.sum(common.mask, axis=-1, dtype=jnp.int32).astype(jnp.float32)
    return Spoken(clients, asked, common, rows, loss, last, apart, new, bits)


def servers_digest(
    exchange: Exchange,
    spoken: Spoken,
    federation: Federation,
    round_: Round,
    model: Model,
    stack: Tree,
    rates: Rates,
) -> tuple[Tree, jax.Array, jax.Array]:
    """Every server fits a model of its own to the common scores, as the clients do.

    Args:
        exchange: static.
        spoken: what the round leaves.
        federation: K clients at S points.
        round_: which round.
        model: the architecture.
        stack: variables [S, ...].
        rates: of SGD, scalars or [S].

    Returns:
        The variables [S, ...], the mean losses [S], and the operations that it took, float32 [S].
    """
    return fit_at_servers(
        model,
        stack,
        spoken.asked,
        spoken.common,
        federation,
        round_,
        exchange.training.execution,
        optimiser_of=sgd,
        numbers=rates,
        loss=exchange.loss,
        kind=exchange.kind,
        batch_size=exchange.batch_size,
        epochs=exchange.epochs,
    )


def report_of(
    exchange: Exchange,
    spoken: Spoken,
    federation: Federation,
    round_: Round,
    loss: jax.Array,
    *,
    epochs: tuple[int, int],
    extra_flops: jax.typing.ArrayLike = 0.0,
    server_flops: jax.typing.ArrayLike = 0.0,
    extra: dict[str, jax.Array] | None = None,
) -> RoundReport:
    """The report of a round in two phases: scores go up, then common scores come down.

    Args:
        exchange: static.
        spoken: what the round leaves.
        federation: K clients at S points.
        round_: which round, and who takes part.
        loss: float32 [K].
        epochs: on the own examples, before the scores and after the digest.
        extra_flops: [K], further work before the scores.
        server_flops: [S], after the common scores are sent.
        extra: what else there is to say.
    """
    given = (exchange.models, federation, round_, exchange.training, spoken.asked)
    down = (spoken.rows * (BITS_PER_VALUE * exchange.models[0].n_classes))[federation.people.point]
    scores = a_phase(
        *given,
        own_epochs=epochs[0],
        answered=1,
        extra_flops=extra_flops,
        uplink_bits=spoken.uplink_bits,
    )
    learn = a_phase(
        *given,
        own_epochs=epochs[1],
        digested=exchange.epochs,
        downlink_bits=down,
        server_flops=server_flops,
    )
    return in_total(loss, [scores, learn], {"digest_loss": spoken.apart, **(extra or {})})


def models_of(
    exchange: Exchange, clients: tuple[Speaker, ...], federation: Federation
) -> tuple[Predictor, ...]:
    """Every client predicts with its own model."""
    return own_models(exchange.models, tuple(each.model for each in clients), federation)


def _as_sent(scores: PublicScores, kind: Kind) -> Sent:
    return rows_of_scores(scores, probabilities=kind == "probabilities")


def _robust(
    exchange: Exchange, single: PublicScores, active: jax.Array, n_points: int
) -> PublicScores:
    """The servers' robust means of the clients' scores [K, P, C], one [P, C] each."""
    present = single.mask & active[:, None]

    def of_server(scores: PublicScores) -> PublicScores:
        if exchange.aggregate == "median":
            values = coordinate_median(scores.values, scores.mask)
        else:
            values = trimmed_mean(scores.values, scores.mask, exchange.trim)
        return PublicScores(values, jnp.any(scores.mask, axis=0))

    return jax.vmap(of_server)(by_server(PublicScores(single.values, present), n_points))
