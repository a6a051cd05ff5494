"""LG-FedAvg: clients keep their extractors and share the head on top of them.

Liang et al. 2020, "Think Locally, Act Globally: Federated Learning with Local and Global
Representations", arXiv:2001.01523, with the local part below and the global part above. Extractors
may be of several architectures if they make equally many features.

State: the head of each server, at first the first architecture's; each client's trained model.
Round: (phi_k, h_k) <- local SGD on CE from (phi_k, h);  h <- sum_k n_k h_k / sum_k n_k.

Two views. `averaged`, the main one, is the client's extractor under the averaged head, by which the
authors' code scores it. `trained` keeps the head that the client itself trained last.

Deviations. The authors' code averages heads with equal weights and starts from a FedAvg model; here
heads are weighed by n_k, as FedAvg does, and nothing is trained beforehand.
"""

from functools import lru_cache

import jax

from fedjax_kd.exchange import Channel, exact
from fedjax_kd.methods.architectures import (
    common_feature_size,
    groups_of,
    init_models,
    init_per_point,
    rows_of,
    weighted_mean,
)
from fedjax_kd.methods.client_work import (
    AtHand,
    Training,
    as_models,
    each_client,
    one_phase,
    state_of,
)
from fedjax_kd.methods.contract import Federation, Method, Predictors, Round, RoundReport, State
from fedjax_kd.methods.local import label_loss, own_models
from fedjax_kd.methods.parameter_upload import (
    SendingRates,
    memory_in,
    optimiser_of,
    send_parameters,
    start_memory,
)
from fedjax_kd.models import Model, profile
from fedjax_kd.models.profile import BITS_PER_VALUE
from fedjax_kd.training import Execution, Rates
from fedjax_kd.training.local_update import Order


@lru_cache(maxsize=64)  # equal arguments give one method, and so one compiled program
def lg_fedavg(
    models: Model | tuple[Model, ...],
    *,
    epochs: int,
    batch_size: int,
    execution: Execution,
    upload: Channel = exact(),  # noqa: B008
    order: Order = "shuffled",
) -> Method:
    """LG-FedAvg; its hyper-parameters are the `Rates` of local SGD, or `SendingRates`.

    `State.server` holds the heads' parameters [S, ...], `State.clients` the variables [K_g, ...] of
    each group, with the heads that the clients trained last; what a channel remembers stands beside
    them as `upload`.

    Args:
        models: one architecture, or one per group of the federation, of equally many features.
        epochs: local epochs per round.
        batch_size: examples per step.
        execution: how the client axis is run.
        upload: what the heads go through; see `parameter_upload`. The server needs sums only.
        order: of a client's examples; see `training.local_update`.

    Returns:
        A method with the views `averaged` and `trained`.

    Raises:
        ValueError: if the models differ in their inputs, classes or number of features.
    """
    found, training = as_models(models), Training(epochs, batch_size, execution, order)
    flops = tuple(float(epochs * profile(model).training_flops) for model in found)
    head_bits = float(BITS_PER_VALUE * (common_feature_size(found) + 1) * found[0].n_classes)

    def init(federation: Federation) -> State:
        people, groups = federation.people, groups_of(found, federation)
        heads = init_per_point(found[0], 0, people)["params"]["head"]
        stacks = _under_own(init_models(found, people, groups), heads, federation)
        memories = [start_memory(upload, heads, len(members)) for members in groups]
        clients = tuple(
            {**stack, "upload": memory} if jax.tree.leaves(memory) else stack
            for stack, memory in zip(stacks, memories, strict=True)
        )
        return state_of(heads, clients, execution)

    def client_of(model: Model):
        def client(own, at: AtHand):
            start = _under(own, at.server)
            trained, loss = at.train(start, label_loss(model), optimiser_of(at.numbers))
            head, memory = trained["params"]["head"], memory_in(own, upload, at.server)
            arrived = send_parameters(upload, memory, at.server, head, at.weight, at)
            kept = {**trained, "upload": arrived.memory} if "upload" in own else trained
            return kept, (arrived.weighted, at.weight), (loss, arrived.bits)

        return client

    def round_(
        state: State, federation: Federation, hparams: Rates | SendingRates, round_: Round
    ) -> tuple[State, RoundReport]:
        clients, (totals, weights), (loss, bits) = each_client(
            client_of,
            found,
            state.clients,
            federation,
            round_,
            training,
            hparams=hparams,
            servers=state.server,
        )
        heads = weighted_mean(totals, weights, state.server)
        report = one_phase(
            found,
            federation,
            round_.active,
            training,
            loss,
            flops_per_example=flops,
            uplink_bits=bits,
            downlink_bits=head_bits,
        )
        return state_of(heads, clients, execution), report

    def predict(state: State, federation: Federation) -> Predictors:
        views = {"averaged": _under_own(state.clients, state.server, federation)}
        views["trained"] = state.clients
        return {name: own_models(found, stacks, federation) for name, stacks in views.items()}

    def _under_own(stacks, heads, federation):  # every client's model under its server's head
        point = federation.people.point
        parts = zip(stacks, groups_of(found, federation), strict=True)
        return tuple(_under(stack, rows_of(heads, point[members])) for stack, members in parts)

    return Method(init, round_, predict)


def _under(variables, head):
    """The same model with another head."""
    return {**variables, "params": {**variables["params"], "head": head}}
