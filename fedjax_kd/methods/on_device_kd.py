"""On-device KD: all clients train a small model, and strong ones distil it into a large one.

Lim et al. 2025, "Enabling Weak Client Participation via On-Device Knowledge Distillation in
Heterogeneous Federated Learning", arXiv:2503.11151. The paper's text says what is done and why; the
algorithm below is that of its released code (as of 9 September 2025), which names the numbers.

State: two models per server, the auxiliary w_s and the target w_l. Clients keep nothing.
Round t, with A_t the sampled clients, S the strong ones, D_k labelled and U_k unlabelled rows:

    1. k in A_t:  w_s,k <- H steps of SGD on CE(y, w_s(x)) over D_k, from w_s
                  w_s   <- w_s + mean_k (w_s,k - w_s)
    2. k in S:    w_l,k <- H steps on CE(y, w_l(x)) over D_k, from w_l; then, at the same velocity,
                           H steps on omega(t) T^2 KL(w_s(x) || w_l(x)) over U_k
                  w_l   <- w_l + mean_k (w_l,k - w_l)

The means are unweighted, and the running statistics of batch normalisation are averaged likewise.
The teacher is the auxiliary model just aggregated, not a client's own copy of it, which would
carry the client's bias into the soft labels. All strong clients train the target in every round:
only the auxiliary's clients are sampled. omega(t) = w e^{-5 (1 - t / R)^2}, then w.

Variants of the code's history are options: `kd_only` (no labelled steps of the target) and
`kd_weight="constant"`. Baselines: `contestant="auxiliary_only"` is step 1 alone (the code's mode
1), `contestant="target_only"` is step 2 without its second half (mode 2).

Deviations from the code. A client starts every round with velocity zero; there the simulated
clients share one optimiser, so that a client starts with its predecessor's velocity, which no
deployment could have (a mode for it, `carry_momentum`, is left out). The velocity does not contain
the learning rate, so the two differ right after a drop of the rate. Divergences are taken in log
space instead of with clipped probabilities. A client that holds nothing to learn from (no labelled
rows in step 1; no rows of either kind in step 2) does not count in a mean.

Expected on the embedded digits (12 users, 3 of them strong, Dirichlet 0.1, small MLPs, 40 rounds of
5 steps, two seeds): 80 % on the common test set with the target, against 51 % of `target_only` and
83 % of the auxiliary model itself; there the teacher's accuracy bounds the student's.
"""

from functools import lru_cache
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from fedjax_kd.clients import Purpose, draw_key, per_point
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
from fedjax_kd.methods.on_device_kd_costs import auxiliary_costs, in_total, target_costs
from fedjax_kd.methods.on_device_kd_steps import auxiliary_step, distillation_weight, target_step
from fedjax_kd.methods.weak_and_strong import (
    TeacherStatistics,
    Training,
    Weighting,
    check_choices,
    check_counts,
    check_models,
    of_everybody,
    sampled,
    strong_seats,
)
from fedjax_kd.models import Model
from fedjax_kd.training import Execution, Rates, settled

Contestant = Literal["on_device_kd", "auxiliary_only", "target_only"]


@struct.dataclass
class OnDeviceKdRates:
    """Traced hyper-parameters of on-device KD.

    Attributes:
        auxiliary: rates of the auxiliary model's SGD.
        target: rates of the target's, in both phases. For the L2 of the paper's code see
            `fedjax_kd.methods.weak_and_strong.decayed_sgd`.
        temperature: T > 0.
        weight: w >= 0, the soft loss's weight when the ramp is over; 0 trains on labels alone.
        ramp_rounds: R, length of the ramp; 0 for none.
    """

    auxiliary: Rates
    target: Rates
    temperature: jax.Array
    weight: jax.Array
    ramp_rounds: jax.Array


class Models(NamedTuple):
    """What the servers hold; `()` for a model that a baseline does not train.

    Attributes:
        auxiliary: variables [S, ...].
        target: variables [S, ...].
    """

    auxiliary: Any
    target: Any


@lru_cache(maxsize=64)  # equal arguments give one method, and so one compiled program
def on_device_kd(
    auxiliary: Model,
    target: Model,
    *,
    strong: int,
    cohort: int | None,
    steps: int,
    batch_size: int,
    execution: Execution,
    contestant: Contestant = "on_device_kd",
    kd_only: bool = False,
    kd_weight: Literal["ramp", "constant"] = "ramp",
    teacher_statistics: TeacherStatistics = "batch",
    weighting: Weighting = "uniform",
) -> Method:
    """On-device KD of two architectures; its hyper-parameters are `OnDeviceKdRates`.

    `State.server` holds `Models`; clients keep nothing.

    Args:
        auxiliary: the small architecture, which every client can train.
        target: the large one, which only strong clients can.
        strong: users 0 to `strong - 1` of each study point are the strong ones.
        cohort: clients per study point drawn for step 1 in each round; None for all.
        steps: H, optimiser steps of each phase.
        batch_size: examples per step.
        execution: how clients are run.
        contestant: the method, or a baseline that trains one of the models on labelled rows.
        kd_only: whether the target learns from the auxiliary alone.
        kd_weight: whether the soft loss's weight ramps up or is constant.
        teacher_statistics: of a teacher with batch normalisation: those of the batch at hand (the
            paper's code) or its running ones (the textbook's choice).
        weighting: of clients in a mean; `examples` is not the paper's.

    Returns:
        A method.

    Raises:
        ValueError: if an option is none of those above, or the two models do not fit together.
    """
    contestants = ("on_device_kd", "auxiliary_only", "target_only")
    check_choices(
        ("contestant", contestant, contestants),
        ("kd_weight", kd_weight, ("ramp", "constant")),
        ("teacher_statistics", teacher_statistics, ("batch", "running")),
        ("weighting", weighting, ("uniform", "examples")),
    )
    check_models(auxiliary, target)
    check_counts(strong=strong, cohort=cohort, steps=steps, batch_size=batch_size)
    if kd_only and contestant != "on_device_kd":
        raise ValueError(f"kd_only must be False where contestant is {contestant!r}; got True")
    training = Training(steps, batch_size, weighting, execution)
    phases = {"auxiliary_only": ("auxiliary",), "target_only": ("target",)}.get(
        contestant, ("auxiliary", "target")
    )
    labelled, distils = not kd_only, contestant == "on_device_kd"

    def init(federation: Federation) -> State:
        models = initial_models(auxiliary, target, federation)
        unused = {name: () for name in ("auxiliary", "target") if name not in phases}
        models = models._replace(**unused)
        return State(server=settled(models, execution, axis="study"), clients=())

    def round_(
        state: State, federation: Federation, hparams: OnDeviceKdRates, round_: Round
    ) -> tuple[State, RoundReport]:
        people, index = federation.people, round_.index
        values = per_point(hparams, people)
        models, costs, extra = state.server, [], {}
        losses = jnp.zeros(people.n_clients, jnp.float32)
        if "auxiliary" in phases:
            seats = sampled(people, index, cohort, round_.active)
            step = auxiliary_step(
                auxiliary, models.auxiliary, values.auxiliary, federation, index, seats, training
            )
            models = models._replace(auxiliary=step.models)
            costs.append(auxiliary_costs(auxiliary, people, seats, training))
            losses = of_everybody(step.loss, seats, people.n_clients)
        if "target" in phases:
            seats = strong_seats(people, strong, round_.active)
            teaching = ()
            if distils:
                omega = distillation_weight(values, index, kd_weight)
                extra["distillation_weight"] = omega
                teaching = (models.auxiliary, values.temperature, omega)
            step = target_step(
                (auxiliary, target, teacher_statistics),
                models.target,
                values.target,
                teaching,
                federation,
                index,
                seats,
                training,
                labelled=labelled,
            )
            models = models._replace(target=step.models)
            options = {"labelled": labelled, "distils": distils}
            costs.append(target_costs(auxiliary, target, people, seats, training, **options))
            trained = of_everybody(seats.present, seats, people.n_clients)
            target_loss = of_everybody(step.loss, seats, people.n_clients)
            losses = jnp.where(trained, target_loss, losses)
        models = settled(models, execution, axis="study")
        return State(models, ()), in_total(losses, costs, extra)

    def predict(state: State, federation: Federation) -> Predictors:
        held = {"target": (target, state.server.target)}
        held["auxiliary"] = (auxiliary, state.server.auxiliary)
        point = federation.people.point
        return {
            name: (Predictor(stack=stack, row=point, logits=logits_of(model)),)
            for name, (model, stack) in held.items()
            if name in phases
        }

    return Method(init, round_, predict, phases, has_roles=True)


def initial_models(auxiliary: Model, target: Model, federation: Federation) -> Models:
    """Each study point's own draw of both models."""
    keys = jax.vmap(lambda root: draw_key(root, 0, Purpose.INIT))(federation.people.roots)

    def draw(number: int, model: Model):
        return jax.vmap(lambda key: model.init(jax.random.fold_in(key, number)))(keys)

    return Models(draw(0, auxiliary), draw(1, target))
