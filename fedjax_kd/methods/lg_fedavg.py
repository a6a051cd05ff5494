"""LG-FedAvg: clients keep their extractors and share the head on top of them.

Liang et al. 2020, "Think Locally, Act Globally: Federated Learning with Local and Global
Representations", arXiv:2001.01523, with the local part below and the global part above. Extractors
may be of several architectures if they make equally many features.

State: the head of each server; each client's model as it left its last round.
Round: (phi_k, h_k) <- local SGD on CE from (phi_k, h);  h <- sum_k n_k h_k / sum_k n_k.

Two views. `averaged`, the main one, is the client's extractor under the averaged head, which is how
the authors' code scores a client. `trained` keeps the head that the client itself trained last, and
so shows what averaging takes from it or gives.

Deviations. The authors' code averages heads with equal weights and starts from a model that FedAvg
has trained; here heads are weighed by n_k, as FedAvg does, and nothing is trained beforehand.
"""

from functools import lru_cache

import jax
import jax.numpy as jnp

from fedjax_kd.clients import Purpose, client_keys, per_point
from fedjax_kd.methods.architectures import (
    by_architecture,
    common_feature_size,
    executed_in_groups,
    groups_of,
    init_models,
    init_per_point,
    rows_of,
    run_groups,
    weighted_mean,
)
from fedjax_kd.methods.contract import (
    Federation,
    Method,
    Predictors,
    Round,
    RoundReport,
    State,
)
from fedjax_kd.methods.local import cross_entropy, own_models
from fedjax_kd.models import Model, profile
from fedjax_kd.models.profile import BITS_PER_VALUE
from fedjax_kd.training import Execution, Rates, local_update, settled, sgd


@lru_cache(maxsize=64)  # equal arguments give one method, and so one compiled program
def lg_fedavg(
    models: tuple[Model, ...], *, epochs: int, batch_size: int, execution: Execution
) -> Method:
    """LG-FedAvg; its hyper-parameters are the `Rates` of local SGD.

    `State.server` holds the heads' parameters [S, ...], `State.clients` the variables [K_g, ...] of
    each group, with the heads that the clients trained last.

    Args:
        models: one architecture per group of the federation, all with equally many features.
        epochs: local epochs per round.
        batch_size: examples per step.
        execution: how the client axis is run.

    Returns:
        A method with the views `averaged` and `trained`.

    Raises:
        ValueError: if the models differ in their inputs, classes or number of features.
    """
    size = common_feature_size(models)
    flops = tuple(float(epochs * profile(model).training_flops) for model in models)
    head_bits = float(BITS_PER_VALUE * (size + 1) * models[0].n_classes)

    def init(federation: Federation) -> State:
        """All clients start from the first architecture's head, the server's."""
        people, groups = federation.people, groups_of(models, federation)
        heads = init_per_point(models[0], 0, people)["params"]["head"]
        clients = tuple(
            _under(stack, rows_of(heads, people.point[members]))
            for stack, members in zip(init_models(models, people, groups), groups, strict=True)
        )
        return State(
            server=settled(heads, execution, axis="study"),
            clients=settled(clients, execution, axis="clients"),
        )

    def one_client_of(model: Model):
        def one_client(variables, inputs, server, shared):
            key, rows, count = inputs
            head, hparams = server
            (table,) = shared
            trained, loss = local_update(
                key,
                _under(variables, head),
                count,
                cross_entropy(model, table, rows),
                sgd(hparams),
                capacity=rows.shape[0],
                epochs=epochs,
                batch_size=batch_size,
            )
            weight = count.astype(jnp.float32)
            message = jax.tree.map(lambda leaf: leaf * weight, trained["params"]["head"])
            return trained, (message, weight), loss

        return one_client

    def round_(
        state: State, federation: Federation, hparams: Rates, round_: Round
    ) -> tuple[State, RoundReport]:
        people, active = federation.people, round_.active
        groups = groups_of(models, federation)

        def inputs_of(some):
            keys = client_keys(some, round_.index, Purpose.BATCH_ORDER)
            return keys, some.train.indices, some.train.counts

        clients, (totals, weights), loss = run_groups(
            one_client_of,
            models,
            state.clients,
            federation,
            inputs_of,
            (state.server, per_point(hparams, people)),
            (federation.table,),
            active,
            execution,
        )
        heads = weighted_mean(totals, weights, state.server)
        per_example = by_architecture(flops, groups, people.n_clients)
        executed = executed_in_groups(people, groups, active, batch_size, execution)
        present = active.astype(jnp.float32)
        report = RoundReport(
            loss=loss,
            work_flops=present * people.train.counts.astype(jnp.float32) * per_example,
            executed_flops=executed * per_example,
            uplink_bits=present * head_bits,
            downlink_bits=present * head_bits,
        )
        return State(settled(heads, execution, axis="study"), clients), report

    def predict(state: State, federation: Federation) -> Predictors:
        people, groups = federation.people, groups_of(models, federation)
        averaged = tuple(
            _under(stack, rows_of(state.server, people.point[members]))
            for stack, members in zip(state.clients, groups, strict=True)
        )
        return {
            "averaged": own_models(models, averaged, federation),
            "trained": own_models(models, state.clients, federation),
        }

    return Method(init, round_, predict)


def _under(variables, head):
    """The same model with another head."""
    return {"params": {**variables["params"], "head": head}, "stats": variables["stats"]}
