"""FedMD: clients of any architecture agree on their logits for public examples.

Li and Wang 2019, "FedMD: Heterogenous Federated Learning via Model Distillation", arXiv:1910.03581,
Algorithm 1. Beforehand each client learns from the labelled public examples, then from its own.

State: each client's model and in how many rounds it has taken part; servers keep nothing.
Round, over the public rows x that it is about, with logits z:

    communicate, aggregate    z_bar(x) <- mean_k z_k(x)    over the round's participants
    digest                    theta_k <- SGD on |z_k(x) - z_bar(x)|, a mean over the classes
    revisit                   theta_k <- SGD on CE over the client's own examples

The distance is that of the authors' code; the paper leaves it open, and `kl` is the divergence
KL(softmax(z_bar) || softmax(z_k)) instead. A server that sees sums only will do.

Deviations. SGD in the place of Adam. The paper trains beforehand until nothing is gained; here for
a number of epochs, none unless asked for, in the first round that a client takes part in. For that
public examples need labels, which a program cannot tell from zeros: whoever sets it up must check.

Expected: equal to `Local` without digest and without training beforehand.
"""

from functools import lru_cache
from typing import Any, Literal

import jax.numpy as jnp
from flax import struct

from fedjax_kd.clients import Purpose
from fedjax_kd.exchange import Channel, exact
from fedjax_kd.methods import public_rounds
from fedjax_kd.methods.architectures import by_architecture, groups_of
from fedjax_kd.methods.client_work import AtHand, Training, state_of
from fedjax_kd.methods.contract import Federation, Method, Round, State
from fedjax_kd.methods.local import label_loss
from fedjax_kd.methods.public_set import check_options, second_key
from fedjax_kd.methods.table_uploads import check_choices
from fedjax_kd.models import Model, profile
from fedjax_kd.training import Execution, Rates

Distance = Literal["mae", "kl"]


@struct.dataclass
class FedMdRates:
    """Traced hyper-parameters: SGD on labels, SGD on the common logits."""

    optimiser: Rates
    digest: Rates
    upload: Any = ()  # the channel's numbers


@lru_cache(maxsize=64)  # equal arguments give one method, and so one compiled program
def fedmd(
    models: Model | tuple[Model, ...],
    *,
    epochs: int,
    batch_size: int,
    execution: Execution,
    digest_epochs: int = 1,
    per_round: int | None = None,
    public_batch_size: int | None = None,
    public_epochs: int = 0,
    private_epochs: int = 0,
    distance: Distance = "mae",
    upload: Channel = exact(),  # noqa: B008
) -> Method:
    """FedMD with hyper-parameters `FedMdRates`; `State.clients` holds a `Speaker` per group.

    Args:
        models: one architecture, or one per group of the federation.
        epochs: of revisiting the own examples, per round.
        batch_size: own examples per step.
        execution: how the client axis is run.
        digest_epochs: passes over the round's public rows.
        per_round: P, public examples drawn for each round; None for all.
        public_batch_size: public examples per step; None for `batch_size`.
        public_epochs: on the public labels, before a client's first scores.
        private_epochs: on the own examples, after those and before a client's first scores.
        distance: of a client's logits from the mean.
        upload: what scores pass on their way to the server.

    Raises:
        ValueError: if an option is none of the above or the models differ in inputs or classes; by
            `init`, if there are too few public examples.
    """
    check_choices(distance=(distance, Distance))
    check_options(public_epochs=public_epochs, private_epochs=private_epochs)
    exchange = public_rounds.exchange_of(
        models,
        Training(epochs, batch_size, execution),
        "logits",
        distance,
        digest_epochs=digest_epochs,
        public_batch_size=public_batch_size,
        per_round=per_round,
        upload=upload,
    )
    public_batch = exchange.batch_size

    def init(federation: Federation) -> State:
        return state_of((), public_rounds.start_speakers(exchange, federation), execution)

    def before(model: Model, own: public_rounds.Speaker, at: AtHand):
        """In a client's first round: it learns from labels, public ones and its own."""
        variables, rates = own.model, at.numbers.optimiser
        for epochs, rows, count, size, purpose in (
            (public_epochs, at.server.indices, at.server.counts, public_batch, Purpose.PUBLIC),
            (private_epochs, at.rows, at.count, batch_size, Purpose.BATCH_ORDER),
        ):
            if epochs:
                times: Any = jnp.where(own.rounds == 0, epochs, 0)
                these = at._replace(rows=rows, count=count, key=second_key(at, purpose))
                these = these._replace(training=Training(times, size, execution))
                variables, _ = these.train(variables, label_loss(model), rates)
        return variables, ()

    def revisit(model: Model, variables, at: AtHand):
        return at.train(variables, label_loss(model), at.numbers.optimiser)

    def round_(state: State, federation: Federation, hparams: FedMdRates, round_: Round):
        spoken = public_rounds.speak_and_digest(
            exchange,
            before,
            revisit,
            lambda mean, numbers: mean,
            state.clients,
            federation,
            round_,
            hparams=hparams,
            purposes=(Purpose.PUBLIC, Purpose.BATCH_ORDER),
        )
        given, extra = (exchange, spoken, federation, round_), spoken.first * beforehand(federation)
        report = public_rounds.report_of(
            *given, spoken.after, epochs=(0, epochs), extra_flops=extra
        )
        return State((), spoken.clients), report

    def beforehand(federation: Federation):
        """Operations of `before` in a client's first round, float32 [K]."""
        people, found = federation.people, exchange.models
        flops = [float(profile(model).training_flops) for model in found]
        each = by_architecture(flops, groups_of(found, federation), people.n_clients)
        public, own = people.public.counts[people.point], people.train.counts
        return each * (public_epochs * public + private_epochs * own).astype(jnp.float32)

    def predict(state: State, federation: Federation):
        return {"own": public_rounds.models_of(exchange, state.clients, federation)}

    return Method(init, round_, predict, phases=("scores", "learn"))
