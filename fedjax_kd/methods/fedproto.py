"""FedProto: clients pull the features of each class towards the mean over all who hold the class.

Tan et al. 2022, "FedProto: Federated Prototype Learning across Heterogeneous Clients",
arXiv:2105.00243, Algorithm 1. Extractors may be of several architectures if they make equally many
features.

State: the class table of each server, vectors being features; each client's model.
Round: for the examples (x, y) of client k, with features phi = phi_k(x),

    theta_k <- local SGD on CE(y, h_k(phi)) + w |phi - C_y|^2,  no second term if C_y is unknown
    C_kc    <- mean of phi_k over the client's examples of class c
    C_c     <- mean of C_kc over the clients that hold class c

Two views. `prototype`, the main one, predicts the class whose C_c is nearest, as the paper does;
`head` predicts by the client's own head, which the paper trains but does not use for this.

What is open. The distance is the squared one divided by the number of features (`mean`), as in the
authors' code, or not (`sum`). Prototypes are taken of the trained model in a pass of their own, or,
as in the authors' code, of the features that the last epoch of training comes by, when the model
was still moving. The paper weighs clients by their examples of a class, the authors' code alike.

Deviations. The paper's loss compares means over a batch with C_c; as in its code, each example is
compared. A table is made of the last round's participants (in the paper all clients take part): a
class that none of them holds has no prototype. When scoring, the authors' code looks at the classes
only that the client is known to hold; here a client may predict every class with a prototype.
"""

from functools import lru_cache
from typing import Literal

import jax
import jax.numpy as jnp
import optax
from flax import struct

from fedjax_kd.clients import Purpose, client_keys, per_point
from fedjax_kd.data import training_batch
from fedjax_kd.distill import masked_mean
from fedjax_kd.methods import class_table
from fedjax_kd.methods.architectures import (
    by_architecture,
    common_feature_size,
    executed_in_groups,
    extractor_flops,
    groups_of,
    init_models,
    rows_of,
    run_groups,
)
from fedjax_kd.methods.class_table import ClassTable
from fedjax_kd.methods.contract import (
    Federation,
    Method,
    Predictor,
    Predictors,
    Round,
    RoundReport,
    State,
)
from fedjax_kd.methods.local import own_models
from fedjax_kd.models import Model, profile
from fedjax_kd.training import Execution, Rates, local_update, settled, sgd


@struct.dataclass
class FedProtoRates:
    """Traced hyper-parameters of FedProto.

    Attributes:
        optimiser: rates of local SGD.
        weight: w >= 0 of the distance to the prototypes; 0 is local training.
    """

    optimiser: Rates
    weight: jax.Array


@lru_cache(maxsize=64)  # equal arguments give one method, and so one compiled program
def fedproto(
    models: tuple[Model, ...],
    *,
    epochs: int,
    batch_size: int,
    execution: Execution,
    average: Literal["clients", "examples"] = "clients",
    distance: Literal["mean", "sum"] = "mean",
    collect: Literal["after_training", "last_epoch"] = "after_training",
) -> Method:
    """FedProto; its hyper-parameters are `FedProtoRates`.

    `State.server` holds a `ClassTable` [S], `State.clients` the variables [K_g, ...] of each group.

    Args:
        models: one architecture per group of the federation, all with equally many features.
        epochs: local epochs per round.
        batch_size: examples per step.
        execution: how the client axis is run.
        average: whether a prototype weighs every client that has the class alike (the authors'
            code) or every example (the paper).
        distance: whether the squared distance is divided by the number of features.
        collect: what features a client's prototypes are means of.

    Returns:
        A method with the views `prototype` and `head`.

    Raises:
        ValueError: if an option is none of the above, or the models differ in their inputs, classes
            or number of features.
    """
    for name, value, allowed in (
        ("average", average, ("clients", "examples")),
        ("distance", distance, ("mean", "sum")),
        ("collect", collect, ("after_training", "last_epoch")),
    ):
        if value not in allowed:
            raise ValueError(f"{name} must be {' or '.join(allowed)}; got {value!r}")
    size, n_classes = common_feature_size(models), models[0].n_classes
    own_pass = collect == "after_training"
    flops = tuple(
        float(epochs * profile(model).training_flops + own_pass * extractor_flops(model))
        for model in models
    )
    shrink = 1.0 / size if distance == "mean" else 1.0
    classifiers = tuple(_nearest(model) for model in models)

    def init(federation: Federation) -> State:
        people, groups = federation.people, groups_of(models, federation)
        servers = class_table.empty(people.n_points, n_classes, size)
        made = init_models(models, people, groups)
        return State(
            server=settled(servers, execution, axis="study"),
            clients=settled(made, execution, axis="clients"),
        )

    def one_client_of(model: Model):
        def one_client(variables, inputs, server, shared):
            key, rows, count = inputs
            prototypes, hparams = server
            (table,) = shared
            target, present = class_table.means(prototypes)
            has_target = present.astype(jnp.float32)
            last_epoch_from = (epochs - 1) * ((count + batch_size - 1) // batch_size)

            def batch_loss(params, carried, batch):
                stats, totals, counts, step = carried
                examples, labels = training_batch(table, rows[batch.positions], batch.key)
                features, stats = model.features(
                    {"params": params, "stats": stats}, examples, train=True, mask=batch.mask
                )
                logits = model.head({"params": params}, features)
                hard = optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels)
                apart = shrink * jnp.sum((features - target[labels]) ** 2, axis=1)
                if not own_pass:
                    counted = batch.mask & (step >= last_epoch_from)
                    seen = jax.lax.stop_gradient(features)
                    totals, counts = class_table.add_by_class(totals, counts, seen, labels, counted)
                losses = hard + hparams.weight * has_target[labels] * apart
                return masked_mean(losses, batch.mask), (stats, totals, counts, step + 1)

            blank = (jnp.zeros((n_classes, size)), jnp.zeros(n_classes), jnp.int32(0))
            trained, loss = local_update(
                key,
                {"params": variables["params"], "stats": (variables["stats"], *blank)},
                count,
                batch_loss,
                sgd(hparams.optimiser),
                capacity=rows.shape[0],
                epochs=epochs,
                batch_size=batch_size,
            )
            stats, totals, counts, _ = trained["stats"]
            variables = {"params": trained["params"], "stats": stats}
            if own_pass:
                totals, counts = class_table.of_rows(
                    lambda examples: model.features(variables, examples, train=False)[0],
                    table,
                    rows,
                    count,
                    n_classes=n_classes,
                    size=size,
                    batch_size=batch_size,
                )
            n_sent = jnp.sum(counts > 0.5, dtype=jnp.int32)
            if average == "clients":
                totals = totals / jnp.maximum(counts, 1.0)[:, None]
                counts = (counts > 0.5).astype(jnp.float32)
            return variables, (totals, counts, jnp.int32(1)), (loss, n_sent)

        return one_client

    def round_(
        state: State, federation: Federation, hparams: FedProtoRates, round_: Round
    ) -> tuple[State, RoundReport]:
        people, active = federation.people, round_.active
        groups = groups_of(models, federation)

        def inputs_of(some):
            keys = client_keys(some, round_.index, Purpose.BATCH_ORDER)
            return keys, some.train.indices, some.train.counts

        clients, (totals, counts, heard), (loss, n_sent) = run_groups(
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
        fresh = ClassTable(totals, counts, jnp.full(heard.shape, round_.index, jnp.int32))

        def newest(new, old):
            return jnp.where((heard > 0).reshape(heard.shape + (1,) * (new.ndim - 1)), new, old)

        server = jax.tree.map(newest, fresh, state.server)
        per_example = by_architecture(flops, groups, people.n_clients)
        executed = executed_in_groups(people, groups, active, batch_size, execution)
        present = active.astype(jnp.float32)
        row_bits = class_table.BITS_PER_VALUE * (size + 1)  # a prototype and its count
        report = RoundReport(
            loss=loss,
            work_flops=present * people.train.counts.astype(jnp.float32) * per_example,
            executed_flops=executed * per_example,
            uplink_bits=n_sent.astype(jnp.float32) * row_bits,
            downlink_bits=present * class_table.bits(state.server)[people.point],
        )
        return State(settled(server, execution, axis="study"), clients), report

    def predict(state: State, federation: Federation) -> Predictors:
        people, groups = federation.people, groups_of(models, federation)
        nearest = []
        for classify, members, stack in zip(classifiers, groups, state.clients, strict=True):
            tables = rows_of(state.server, people.point[members])
            row = jnp.arange(len(members), dtype=jnp.int32)
            nearest.append(Predictor({"model": stack, "table": tables}, row, members, classify))
        return {"prototype": tuple(nearest), "head": own_models(models, state.clients, federation)}

    return Method(init, round_, predict)


@lru_cache(maxsize=64)  # one function a model, so that programs which hold it compare equal
def _nearest(model: Model):
    """`(variables, inputs) -> [B, C]`: minus the squared distance to each class's prototype."""

    def logits(variables, inputs):
        features, _ = model.features(variables["model"], inputs, train=False)
        prototypes, present = class_table.means(variables["table"])
        squared = jnp.sum((features[:, None, :] - prototypes[None, :, :]) ** 2, axis=-1)
        return jnp.where(present[None, :], -squared, -jnp.inf)

    return logits
