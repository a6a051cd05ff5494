"""DS-FL: clients learn from the sharpened mean of their probabilities for public examples.

Itahara et al. 2021, "Distillation-Based Semi-Supervised Federated Learning for
Communication-Efficient Collaborative Training with Non-IID Private Data", arXiv:2008.06180.

State: each server's model, each client's model.
Round, over the public rows x that it is about, without their labels, p = softmax(z):

    update       theta_k <- SGD on CE over the client's own examples
    predict      p_k(x), sent; the server takes p_bar(x) = mean_k p_k(x) over the participants
    aggregate    q(x) <- softmax(p_bar(x) / T), of the probabilities themselves; T = 0.1
    distil       theta_k and the server's theta <- SGD on CE(q(x), p(x))

`power` sharpens to p_bar^s / sum p_bar^s instead (SCARLET), which s = 1 makes the identity, as
`none` is. A robust mean, which some bad uploads cannot move far, is Cronus' idea (arXiv:1912.11279,
with another estimator than the two here). For the plain one, a server that sees sums only will do.
Two views: `own`, the main one, each client's model, and `server`.

Deviations. Clients may have several architectures; the server's is the first unless it is given.
Noise of a channel may take probabilities below zero, which counts as zero with `power` and `none`.

Expected: `own` is equal to `Local` without digest.
"""

from functools import lru_cache
from typing import Any, Literal

import jax
from flax import struct

from fedjax_kd.clients import Purpose
from fedjax_kd.exchange import PublicScores, channel, sharpen_by_power, sharpen_by_softmax
from fedjax_kd.methods import public_rounds
from fedjax_kd.methods.architectures import init_per_point
from fedjax_kd.methods.client_work import AtHand, Training, as_models, state_of
from fedjax_kd.methods.contract import Federation, Method, Predictor, Round, State, logits_of
from fedjax_kd.methods.local import label_loss
from fedjax_kd.methods.table_uploads import check_choices
from fedjax_kd.models import Model
from fedjax_kd.training import Execution, Rates

Sharpen = Literal["era", "power", "none"]


@struct.dataclass
class DsFlRates:
    """Traced hyper-parameters: SGD on labels, SGD on the common probabilities, T or s > 0."""

    optimiser: Rates
    digest: Rates
    strength: jax.Array
    upload: Any = ()  # the channel's numbers


@lru_cache(maxsize=64)  # equal arguments give one method, and so one compiled program
def ds_fl(
    models: Model | tuple[Model, ...],
    *,
    epochs: int,
    batch_size: int,
    execution: Execution,
    server: Model | None = None,
    digest_epochs: int = 1,
    per_round: int | None = None,
    public_batch_size: int | None = None,
    sharpen: Sharpen = "era",
    aggregate: public_rounds.Aggregate = "mean",
    trim: float = 0.1,
    upload: channel.Channel = channel.exact(),  # noqa: B008
) -> Method:
    """DS-FL with hyper-parameters `DsFlRates`; `State.clients` holds a `Speaker` per group.

    `State.server` holds the variables [S, ...] of the servers' models.

    Args:
        models: one architecture, or one per group of the federation.
        epochs: on the own examples, per round.
        batch_size: own examples per step.
        execution: how the client axis is run.
        server: the architecture of the servers' models; None for the first of `models`.
        digest_epochs: passes over the round's public rows, of clients and servers.
        per_round: P, public examples drawn for each round; None for all.
        public_batch_size: public examples per step; None for `batch_size`.
        sharpen: how the aggregate is made more certain.
        aggregate: of the participants' probabilities.
        trim: share of the participants that `trimmed` leaves out at each end, in [0, 0.5).
        upload: what probabilities pass on their way to the server.

    Raises:
        ValueError: if an option is none of the above or the models differ in inputs or classes; by
            `init`, if there are too few public examples.
    """
    check_choices(sharpen=(sharpen, Sharpen))
    exchange = public_rounds.exchange_of(
        models,
        Training(epochs, batch_size, execution),
        "probabilities",
        "ce",
        digest_epochs=digest_epochs,
        public_batch_size=public_batch_size,
        per_round=per_round,
        upload=upload,
        aggregate=aggregate,
        trim=trim,
    )
    student = as_models((*exchange.models, server))[-1] if server else exchange.models[0]

    def init(federation: Federation) -> State:
        speakers = public_rounds.start_speakers(exchange, federation)
        return state_of(init_per_point(student, 0, federation.people), speakers, execution)

    def update(model: Model, own: public_rounds.Speaker, at: AtHand):
        return at.train(own.model, label_loss(model), at.numbers.optimiser)

    def sharper(mean: PublicScores, numbers: DsFlRates) -> PublicScores:
        by = sharpen_by_softmax if sharpen == "era" else sharpen_by_power
        strength = 1.0 if sharpen == "none" else numbers.strength
        return PublicScores(by(mean.values, strength), mean.mask)

    def round_(state: State, federation: Federation, hparams: DsFlRates, round_: Round):
        spoken = public_rounds.speak_and_digest(
            exchange,
            update,
            lambda model, variables, at: (variables, ()),
            sharper,
            state.clients,
            federation,
            round_,
            hparams=hparams,
            purposes=(Purpose.BATCH_ORDER, Purpose.DISTIL_ORDER),
        )
        given = (exchange, spoken, federation, round_)
        servers, loss, flops = public_rounds.servers_digest(
            *given, student, state.server, hparams.digest
        )
        report = public_rounds.report_of(
            *given,
            spoken.before,
            epochs=(epochs, 0),
            server_flops=flops,
            extra={"server_loss": loss},
        )
        return State(servers, spoken.clients), report

    def predict(state: State, federation: Federation):
        common = Predictor(state.server, federation.people.point, logits=logits_of(student))
        own = public_rounds.models_of(exchange, state.clients, federation)
        return {"own": own, "server": (common,)}

    return Method(init, round_, predict, phases=("scores", "learn"))
