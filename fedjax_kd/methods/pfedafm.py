"""pFedAFM: a shared small extractor, mixed feature by feature into every client's own model.

Yi et al. 2024, "pFedAFM: Adaptive Feature Mixture for Batch-Level Personalization in Heterogeneous
Federated Learning", arXiv:2404.17847. Client k has a private model F_k (extractor and header) of an
architecture of its own and a private mixing vector alpha_k in [0, 1]^d. The extractor G with
parameters theta is everybody's and the only thing sent.

Round, for the participants k of a server:

    receive theta;
    personal  F_k, alpha_k <- E epochs of SGD on CE(F_head(alpha F_ex(x) + (1 - alpha) G(x)), y);
              after every step alpha <- min(max(alpha, 0), 1)
    shared    theta_k <- E epochs of SGD on CE(F_head(G(x)), y), from theta, the rest frozen;
    send theta_k;  theta <- sum_k n_k theta_k / sum_k n_k.

A client is scored as it stands between the stages, with the theta it received.

What the paper leaves open is our assumption: every optimiser starts afresh in each round and at
each client; a client that was not drawn is scored with the newest theta that was sent to anybody of
its server; running statistics of batch normalisation, which the paper's networks do not have,
travel with theta.

`joint` is an ablation that the authors' code has commented out: one stage of E epochs in which all
three parts learn from the first loss. There is no state between stages to be scored then; clients
are scored with the averaged theta (our assumption). `mode="released_code"` computes what that code
computes instead of the paper's algorithm, see `fedjax_kd.methods.pfedafm_released`.

Expected: alpha leaves one, where it starts; a client whose own data teach little moves most.
"""

from dataclasses import replace
from functools import lru_cache, partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import struct

from fedjax_kd.clients import Purpose, client_keys, per_point
from fedjax_kd.methods import pfedafm_released
from fedjax_kd.methods.architectures import (
    by_architecture,
    check_tasks,
    common_feature_size,
    executed_in_groups,
    extractor_flops,
    groups_of,
    head_flops,
    init_models,
    init_per_point,
    rows_of,
    run_groups,
    weighted_mean,
)
from fedjax_kd.methods.contract import (
    Federation,
    Method,
    PhaseReport,
    Predictor,
    Predictors,
    Round,
    RoundReport,
    State,
)
from fedjax_kd.methods.pfedafm_stages import (
    Client,
    PFedAfmRates,
    Theta,
    joint_loss,
    joint_optimiser,
    mixed_logits,
    personal_loss,
    personal_optimiser,
    shared_loss,
)
from fedjax_kd.models import Model, forward_flops
from fedjax_kd.models.profile import BITS_PER_VALUE, TRAINING_TO_FORWARD
from fedjax_kd.training import Execution, local_update, settled, sgd


@struct.dataclass
class Server:
    """What the servers keep.

    Attributes:
        theta: variables of the shared extractor, [S, ...].
        sent: theta as the last participants received it, [S, ...].
        chain: of the released code alone: what goes from client to client; else `()`.
    """

    theta: Theta
    sent: Theta
    chain: Any = ()


@lru_cache(maxsize=64)  # equal arguments give one method, and so one compiled program
def pfedafm(
    models: tuple[Model, ...],
    shared: Model,
    *,
    epochs: int,
    batch_size: int,
    execution: Execution,
    mode: Literal["paper", "released_code"] = "paper",
    joint: bool = False,
) -> Method:
    """pFedAFM; its hyper-parameters are `PFedAfmRates`.

    `State.server` is a `Server`, `State.clients` one `Client` [K_g, ...] for each group.

    Args:
        models: one architecture per group of the federation. Their extractors and that of `shared`
            must make equally many features, and end in ReLU, as all of the catalog do.
        shared: the architecture whose extractor is G; its header is not used and not sent.
        epochs: E, local epochs of each stage.
        batch_size: examples per step.
        execution: how the client axis is run; `released_code` ignores its form.
        mode: the paper's algorithm, or what the authors' code computes.
        joint: whether all parts learn at once.

    Returns:
        A method with the view `own`, and two phases, or one if `joint`.

    Raises:
        ValueError: if `mode` is none of the above, does not go with `joint`, or the models differ
            in their inputs, classes or number of features.
    """
    if mode not in ("paper", "released_code"):
        raise ValueError(f"mode must be paper or released_code; got {mode!r}")
    if joint and mode != "paper":
        raise ValueError(f"joint: found True with mode {mode!r}; allowed: with mode 'paper'")
    check_tasks(models)
    size = common_feature_size((*models, shared))
    work = [tuple(epochs * flops for flops in each) for each in _stage_flops(models, shared, joint)]
    classifiers = tuple(_classifier(model, shared) for model in models)
    released = mode == "released_code"
    loop = pfedafm_released.Loop(models, shared, epochs, batch_size, execution)

    def init(federation: Federation) -> State:
        """Everybody of one architecture and point starts alike, as in the authors' code."""
        people, groups = federation.people, groups_of(models, federation)
        made = init_per_point(shared, len(models), people)
        theta = {"params": {"extractor": made["params"]["extractor"]}, "stats": made["stats"]}
        clients = tuple(
            Client(variables, jnp.ones((len(members), size), jnp.float32))
            for variables, members in zip(init_models(models, people, groups), groups, strict=True)
        )
        server = Server(theta, jax.tree.map(jnp.copy, theta))  # apart: states are given away
        if released:
            chain = pfedafm_released.start(theta, people.n_points, size)
            server = replace(server, chain=chain)
            clients = tuple(map(pfedafm_released.not_visited, clients))
        return State(
            server=settled(server, execution, axis="study"),
            clients=settled(clients, execution, axis="clients"),
        )

    def two_stages(model: Model):
        def one_client(client: Client, inputs, server, table):
            (first_key, second_key), rows, count = inputs
            theta, hparams = server
            fit = partial(
                local_update, capacity=rows.shape[0], epochs=epochs, batch_size=batch_size
            )
            own = {
                "params": {"model": client.model["params"], "mixing": client.mixing},
                "stats": client.model["stats"],
            }
            first = personal_loss(model, shared, theta, table, rows)
            own, loss = fit(first_key, own, count, first, personal_optimiser(hparams))
            variables = {"params": own["params"]["model"], "stats": own["stats"]}
            client = Client(variables, own["params"]["mixing"])
            second = shared_loss(model, shared, client.model, table, rows)
            theta, loss_shared = fit(second_key, theta, count, second, sgd(hparams.shared))
            return client, _weighted(theta, count), _outputs(client, loss, loss_shared)

        return one_client

    def all_at_once(model: Model):
        def one_client(client: Client, inputs, server, table):
            (key, _), rows, count = inputs
            theta, hparams = server
            every = {
                "params": {
                    "model": client.model["params"],
                    "mixing": client.mixing,
                    "shared": theta["params"],
                },
                "stats": {"model": client.model["stats"], "shared": theta["stats"]},
            }
            every, loss = local_update(
                key,
                every,
                count,
                joint_loss(model, shared, table, rows),
                joint_optimiser(hparams),
                capacity=rows.shape[0],
                epochs=epochs,
                batch_size=batch_size,
            )
            params, stats = every["params"], every["stats"]
            variables = {"params": params["model"], "stats": stats["model"]}
            client = Client(variables, params["mixing"])
            theta = {"params": params["shared"], "stats": stats["shared"]}
            return client, _weighted(theta, count), _outputs(client, loss, loss)

        return one_client

    def round_(
        state: State, federation: Federation, hparams: PFedAfmRates, round_: Round
    ) -> tuple[State, RoundReport]:
        people, active = federation.people, round_.active
        groups, server = groups_of(models, federation), state.server

        def inputs_of(some):
            first = client_keys(some, round_.index, Purpose.BATCH_ORDER)
            second = client_keys(some, round_.index, Purpose.DISTIL_ORDER)
            return (first, second), some.train.indices, some.train.counts

        if released:
            clients, theta, chain, outputs = pfedafm_released.visit_all(
                loop, state.clients, server, federation, inputs_of(people), hparams, round_
            )
            clients = settled(clients, execution, axis="clients")
        else:
            clients, (totals, weights), outputs = run_groups(
                all_at_once if joint else two_stages,
                models,
                state.clients,
                federation,
                inputs_of,
                (server.theta, per_point(hparams, people)),
                federation.table,
                active,
                execution,
            )
            theta, chain = weighted_mean(totals, weights, server.theta), ()
        heard = jnp.zeros(people.n_points, bool).at[people.point].max(active)
        sent = jax.tree.map(partial(_where_point, heard), server.theta, server.sent)
        after = settled(Server(theta, sent, chain), execution, axis="study")
        return State(after, clients), report(outputs, people, groups, active, server.theta)

    def report(outputs, people, groups, active, theta) -> RoundReport:
        present = active.astype(jnp.float32)
        examples = present * people.train.counts.astype(jnp.float32)
        values = sum(leaf[0].size for leaf in jax.tree.leaves(theta))
        bits, nothing = present * float(BITS_PER_VALUE * values), jnp.zeros_like(present)
        stages = [by_architecture(flops, groups, people.n_clients) for flops in work]
        last = len(stages) - 1
        phases = tuple(
            PhaseReport(
                work_flops=examples * per_example,
                uplink_bits=bits if number == last else nothing,
                downlink_bits=bits if number == 0 else nothing,
                server_flops=jnp.zeros(people.n_points, jnp.float32),
            )
            for number, per_example in enumerate(stages)
        )
        run_as = pfedafm_released.one_by_one(execution) if released else execution
        executed = executed_in_groups(people, groups, active, batch_size, run_as)
        extra = {"mixing_mean": outputs["mixing_mean"]}
        if not joint:
            extra["shared_loss"] = outputs["shared_loss"]
        return RoundReport(
            loss=outputs["loss"],
            work_flops=examples * sum(stages),
            executed_flops=executed * sum(stages),
            uplink_bits=bits,
            downlink_bits=bits,
            phases=phases,
            extra=extra,
        )

    def predict(state: State, federation: Federation) -> Predictors:
        people, groups = federation.people, groups_of(models, federation)
        theta = state.server.theta if joint else state.server.sent
        own = []
        for classify, members, client in zip(classifiers, groups, state.clients, strict=True):
            stack = {
                "model": client.model,
                "mixing": client.mixing,
                "theta": rows_of(theta, people.point[members]),
            }
            row = jnp.arange(len(members), dtype=jnp.int32)
            own.append(Predictor(stack, row, members, classify))
        return {"own": tuple(own)}

    phases = ("joint",) if joint else ("personal", "shared")
    return Method(init, round_, predict, phases, has_roles=mode == "released_code")


def _stage_flops(models: tuple[Model, ...], shared: Model, joint: bool) -> list[tuple[float, ...]]:
    """Operations per example and epoch, per stage and architecture.

    Frozen parts cost their forward pass; a frozen header also what its backward pass hands down to
    the features, which is as much again. The mixture itself is not counted.
    """
    common = extractor_flops(shared)
    whole = [TRAINING_TO_FORWARD * forward_flops(model) for model in models]
    if joint:
        return [tuple(float(own + TRAINING_TO_FORWARD * common) for own in whole)]
    through_head = [2 * head_flops(model) for model in models]
    return [
        tuple(float(own + common) for own in whole),
        tuple(float(TRAINING_TO_FORWARD * common + head) for head in through_head),
    ]


@lru_cache(maxsize=64)  # one function a pair, so that programs which hold it compare equal
def _classifier(model: Model, shared: Model):
    return partial(mixed_logits, model, shared)


def _weighted(theta: Theta, count: jax.Array) -> tuple[Theta, jax.Array]:
    """What a client sends to be summed: n_k theta_k and n_k, its training examples."""
    weight = count.astype(jnp.float32)
    return jax.tree.map(lambda leaf: leaf * weight, theta), weight


def _outputs(client: Client, loss: jax.Array, loss_shared: jax.Array) -> dict[str, jax.Array]:
    return {
        "loss": loss,
        "shared_loss": loss_shared,
        "mixing_mean": jnp.mean(client.mixing),
    }


def _where_point(which: jax.Array, new: jax.Array, old: jax.Array) -> jax.Array:
    """Rows of `new` for the points that are marked, of `old` for the others."""
    return jnp.where(which.reshape(which.shape + (1,) * (new.ndim - 1)), new, old)
