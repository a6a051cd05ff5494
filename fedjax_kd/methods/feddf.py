"""FedDF: averages of the clients' models learn, at the server, from all of the clients together.

Lin et al. 2020, "Ensemble Distillation for Robust Model Fusion in Federated Learning",
arXiv:2006.07242, Algorithms 1 and 3.

State: one model of each architecture per server; clients keep nothing.
Round, over the public rows x that it is about, with logits z and A_t its participants:

    theta_k <- local SGD on CE from theta_a, a the client's architecture
    theta_a <- sum_k n_k theta_k / sum_k n_k    over the participants of architecture a
    theta_a <- steps on KL(softmax(mean_k z_k(x)) || softmax(z_a(x))), k over all of A_t

The server makes the teachers' logits of the models that it was sent, so it must see each upload. An
architecture of which nobody takes part keeps its model and distils like the others.

The authors' code takes 10,000 steps of Adam on batches of 128, at 0.001 falling along a cosine to
zero, or fewer if the accuracy on validation data no longer rises. Deviations: as many steps as are
asked for, without stopping early; teachers speak once of each example, before augmentation.

Expected: equal to FedAvg in each architecture with `server_steps=0`.
"""

from dataclasses import replace
from functools import lru_cache
from typing import Any, Literal

import jax.numpy as jnp
from flax import struct

from fedjax_kd.data import IndexTable
from fedjax_kd.exchange import PublicScores, channel, scores_of
from fedjax_kd.methods import parameter_average, public_set
from fedjax_kd.methods.client_work import AtHand, Training, as_models
from fedjax_kd.methods.contract import Federation, Method, Round, State
from fedjax_kd.methods.local import label_loss
from fedjax_kd.methods.on_device_kd_costs import in_total
from fedjax_kd.methods.table_uploads import check_choices
from fedjax_kd.models import Model, profile
from fedjax_kd.training import Execution, Rates, sgd

ServerOptimiser = Literal["adam_cosine", "adam", "sgd"]


@struct.dataclass
class FedDfRates:
    """Traced hyper-parameters; of `server`, Adam reads the learning rate alone."""

    optimiser: Rates
    server: Rates
    upload: Any = ()  # the channel's numbers
    point: Any = ()  # int32 [S], which server it is; set by the method


@lru_cache(maxsize=64)  # equal arguments give one method, and so one compiled program
def feddf(
    models: Model | tuple[Model, ...],
    *,
    epochs: int,
    batch_size: int,
    execution: Execution,
    server_steps: int,
    public_batch_size: int = 128,
    per_round: int | None = None,
    server_optimiser: ServerOptimiser = "adam_cosine",
    upload: channel.Channel = channel.exact(),  # noqa: B008
) -> Method:
    """FedDF with hyper-parameters `FedDfRates`; its state and its view are those of `fedavg`.

    Args:
        models: one architecture for all, or one per group of the federation.
        epochs: local epochs per round.
        batch_size: own examples per step.
        execution: how clients are run, and servers side by side.
        server_steps: of distilling each architecture; 0 for none.
        public_batch_size: public examples per step.
        per_round: P, public examples drawn for each round; None for all.
        server_optimiser: of the distillation.
        upload: what models pass on their way to the server.

    Raises:
        ValueError: if an option is none of the above or the models differ in inputs or classes; by
            `init`, if there are too few public examples.
    """
    check_choices(server_optimiser=(server_optimiser, ServerOptimiser))
    public_set.check_options(epochs=epochs, server_steps=server_steps)
    sizes = {"batch_size": batch_size, "public_batch_size": public_batch_size}
    public_set.check_options(1, per_round=per_round, **sizes)
    found, training = as_models(models), Training(epochs, batch_size, execution)

    def init(federation: Federation) -> State:
        public_set.check_public(federation.people, per_round)
        start = parameter_average.start_averages(models, federation, training, upload)
        return State(start.server, start.clients or ((),) * len(found))  # one of each group

    def teach(model: Model, variables, at: AtHand):
        rows, count = at.shared.indices[at.numbers.point], at.shared.counts[at.numbers.point]
        logits = scores_of(model, variables, at.table, rows, count)
        scores = PublicScores(logits, jnp.arange(len(rows)) < count)
        return public_set.share(scores), count.astype(jnp.float32) * profile(model).forward_flops

    def optimiser_of(rates: Rates):
        if server_optimiser == "sgd":
            return sgd(rates)
        falls_over = server_steps if server_optimiser == "adam_cosine" else None
        return public_set.adam(rates.learning_rate, falls_over)

    def round_(state: State, federation: Federation, hparams: FedDfRates, round_: Round):
        given, points = (federation, round_), jnp.arange(federation.people.n_points)
        asked = public_set.asked_rows(federation.people, round_, per_round)
        averaged = parameter_average.train_and_average(
            lambda model, at: label_loss(model),
            models,
            state.server,
            state.clients,
            *given,
            training,
            hparams=replace(hparams, point=points),
            upload=upload,
            also=teach if server_steps else None,
            shared=asked,
        )
        servers, server_flops = averaged.averages, 0.0
        if server_steps:
            servers, server_flops = distilled(averaged, asked, hparams.server, *given)
        down, up = parameter_average.bits_to_send(found, federation), averaged.uplink_bits
        bits = {"downlink_bits": down, "uplink_bits": up, "server_flops": server_flops}
        phase = public_set.a_phase(found, *given, training, asked, own_epochs=epochs, **bits)
        return State(servers, averaged.clients), in_total(averaged.loss, [phase], {})

    def distilled(averaged, asked: IndexTable, rates: Rates, federation, round_):
        """Every architecture's model after its steps, and the servers' operations [S]."""
        teachers, flops = public_set.mean_of_shares(averaged.sums[0]), averaged.sums[1]
        alone, fitted = isinstance(models, Model), []
        stacks = (averaged.averages,) if alone else averaged.averages
        steps: dict[str, Any] = {"steps": server_steps, "batch_size": public_batch_size}
        steps |= {"optimiser_of": optimiser_of, "numbers": rates, "loss": "kl", "kind": "logits"}
        for place, (model, stack) in enumerate(zip(found, stacks, strict=True)):
            stack, _, spent = public_set.fit_at_servers(
                model, stack, asked, teachers, federation, round_, execution, place=place, **steps
            )
            fitted.append(stack)
            flops += spent
        return fitted[0] if alone else tuple(fitted), flops

    def predict(state: State, federation: Federation):
        return {"model": parameter_average.predict_averages(models, state.server, federation)}

    return Method(init, round_, predict)
