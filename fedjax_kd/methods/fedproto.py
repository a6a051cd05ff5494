"""FedProto: clients pull the features of each class towards the mean over all who hold the class.

Tan et al. 2022, "FedProto: Federated Prototype Learning across Heterogeneous Clients",
arXiv:2105.00243, Algorithm 1. Architectures may be any that make equally many features.

Round: for the examples (x, y) of client k, with features phi = phi_k(x),

    theta_k <- local SGD on CE(y, h_k(phi)) + w |phi - C_y|^2,  no second term if C_y is unknown
    C_kc    <- mean of phi_k over the client's examples of class c
    C_c     <- mean of C_kc over the clients that hold class c

Two views. `prototype`, the main one, predicts the class whose C_c is nearest, as the paper does;
`head` predicts by the client's own head, which the paper trains but does not use for this. A secure
sum will do.

What is open. The distance is the squared one divided by the number of features (`mean`), as in the
authors' code, or not (`sum`). Prototypes are taken of the trained model in a pass of their own, or,
as in the authors' code, of the features that the last epoch of training comes by, when the model
was still moving. The paper weighs clients by their examples of a class, the authors' code alike.

Form `htfllib` is HtFLlib's code: clients weigh alike, distances are means, features of all local
epochs count, and a class that no participant of a round holds loses its prototype.

Deviations. The paper's loss compares means over a batch with C_c; as in its code, each example is
compared. Where not all take part (in the paper all do), a class that no participant holds keeps its
old prototype: our choice. When scoring, the authors' code looks at the classes only that the client
is known to hold; here a client may predict every class with a prototype.
"""

from functools import lru_cache, partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct

from fedjax_kd.exchange import Channel, class_table, exact
from fedjax_kd.methods import architectures
from fedjax_kd.methods.client_work import AtHand, Training, as_models, state_of
from fedjax_kd.methods.contract import Federation, Method, Predictors, State
from fedjax_kd.methods.local import own_models
from fedjax_kd.methods.nearest import nearest_prototypes
from fedjax_kd.methods.table_uploads import Average, check_choices, nothing_sent, round_of_all, send
from fedjax_kd.models import Model, profile
from fedjax_kd.training import Execution, Rates
from fedjax_kd.training.local_update import Order

Form = Literal["paper", "htfllib"]
Distance = Literal["mean", "sum"]
Collect = Literal["after_training", "last_epoch", "every_epoch"]


@struct.dataclass
class FedProtoRates:
    """Traced hyper-parameters: rates of SGD and w >= 0, of which 0 is local training."""

    optimiser: Rates
    weight: jax.Array
    upload: Any = ()  # the channel's numbers


class Clients(NamedTuple):
    """The variables of a group, and what its channels remember, [K_g, ...]."""

    models: Any
    memory: Any


@lru_cache(maxsize=64)  # equal arguments give one method, and so one compiled program
def fedproto(
    models: Model | tuple[Model, ...],
    *,
    epochs: int,
    batch_size: int,
    execution: Execution,
    form: Form = "paper",
    average: Average = "clients",
    distance: Distance = "mean",
    collect: Collect | None = None,
    order: Order = "shuffled",
    upload: Channel = exact(),  # noqa: B008
) -> Method:
    """FedProto with hyper-parameters `FedProtoRates`, a ClassTable [S] at the servers.

    Args:
        models: one architecture, or one per group of the federation; equally many features.
        epochs: local epochs per round.
        batch_size: examples per step.
        execution: how the client axis is run.
        form: ours of the paper, or HtFLlib's.
        average: whether a prototype weighs its clients alike (the codes) or its examples (paper).
        distance: whether the squared distance is divided by the number of features.
        collect: what features count; None: `after_training`, in `htfllib` `every_epoch`.
        order: in which a client's examples are visited.
        upload: what the tables pass on their way to the server.

    Raises:
        ValueError: if an option is none of the above, or the models do not go together.
    """
    collect = collect or ("after_training" if form == "paper" else "every_epoch")
    check_choices(form=(form, Form), average=(average, Average), distance=(distance, Distance))
    check_choices(collect=(collect, Collect))
    models, training = as_models(models), Training(epochs, batch_size, execution, order)
    shape = (models[0].n_classes, architectures.common_feature_size(models))
    shrink = 1.0 / shape[1] if distance == "mean" else 1.0
    own_pass, last = collect == "after_training", epochs if collect == "every_epoch" else 1
    passes = (own_pass * architectures.extractor_flops(model) for model in models)
    trains = (epochs * profile(model).training_flops for model in models)
    flops = [float(train + again) for train, again in zip(trains, passes, strict=True)]

    def init(federation: Federation) -> State:
        groups = architectures.groups_of(models, federation)
        stacks = architectures.init_models(models, federation.people, groups)
        memories = [nothing_sent(upload, len(members), *shape, average)[1] for members in groups]
        clients = tuple(map(Clients, stacks, memories))
        return state_of(class_table.empty(federation.people.n_points, *shape), clients, execution)

    def client_of(model: Model):
        def client(own: Clients, at: AtHand):
            prototypes, present = class_table.means(at.server)
            rates, weight = at.numbers.optimiser, at.numbers.weight * present.astype(jnp.float32)

            def loss(params, stats, batch):
                bound = {"params": params, "stats": stats}
                features, stats = model.features(bound, batch.inputs, True, batch.mask)
                z = model.head({"params": params}, features)
                hard = optax.losses.softmax_cross_entropy_with_integer_labels(z, batch.labels)
                apart = shrink * jnp.sum((features - prototypes[batch.labels]) ** 2, axis=1)
                return hard + weight[batch.labels] * apart, stats, features

            if own_pass:
                trained, mean = at.train(own.models, lambda *batch: loss(*batch)[:2], rates)
                table = at.collect(lambda x: model.features(trained, x, False)[0], shape)
            else:
                trained, table, mean = at.train_and_collect(own.models, loss, rates, shape, last)
            (_, memory), message, bits = send(at, upload, own.memory, table, average)
            return Clients(trained, memory), message, (mean, bits)

        return client

    def predict(state: State, federation: Federation) -> Predictors:
        stacks = tuple(clients.models for clients in state.clients)
        nearest = nearest_prototypes(models, stacks, state.server, federation)
        return {"prototype": nearest, "head": own_models(models, stacks, federation)}

    renew = partial(round_of_all, client_of, models, training, flops, keep_absent=form == "paper")
    return Method(init, renew, predict)
