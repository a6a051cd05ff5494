"""A comparison out of the package's parts: data, partition, model, method and first weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from fedjax_kd.clients import population
from fedjax_kd.data import (
    DirichletPooled,
    Source,
    Statistics,
    UserSplit,
    build_split,
    example_table,
    host_rng,
)
from fedjax_kd.methods.contract import Federation, Method
from fedjax_kd.methods.fd import FdRates, fd
from fedjax_kd.methods.fedavg import fedavg
from fedjax_kd.methods.fedproto import FedProtoRates, fedproto
from fedjax_kd.models import Model, build_model
from fedjax_kd.training import Execution, everywhere, rates

from .job import Job, Terms

BY_CHANNEL = ("digits",)  # the others as HtFLlib normalises: mean and deviation one half
HIDDEN = (64, 32)
TEST_SHARE = 0.25


class Clients(NamedTuple):
    """Who there is; the defaults of HtFLlib are 20 clients, alpha 0.1 and seed 1.

    Attributes:
        clients: K.
        alpha: of the Dirichlet distribution by which each class is divided.
        seed: of the partition, a seed of NumPy's legacy generator.
        min_examples: that the smallest client holds.
        max_train: training examples of a client at most; 0 for all.
    """

    clients: int = 20
    alpha: float = 0.1
    seed: int = 1
    min_examples: int = 40
    max_train: int = 0


class Setting(NamedTuple):
    """Everything that a round of ours takes.

    Attributes:
        terms: the numbers.
        federation: the clients and their examples.
        method: in its HtFLlib form.
        hparams: its traced numbers.
    """

    terms: Terms
    federation: Federation
    method: Method
    hparams: Any


def split_of(source: Source, clients: Clients) -> UserSplit:
    """Training and test examples pooled, divided, and each client's share cut 75 to 25."""
    spec = DirichletPooled(
        alpha=clients.alpha, seed=clients.seed, min_examples=clients.min_examples
    )
    return build_split(
        source,
        spec,
        clients.clients,
        rng=host_rng(clients.seed, "partition"),
        test_fraction=TEST_SHARE,
        validation_fraction=0.0,
        max_train=clients.max_train,
        common_validation=0,
    )


def setting(terms: Terms, source: Source, split: UserSplit, execution: Execution) -> Setting:
    """The terms as objects of the package."""
    halves = (0.5,) * source.input_shape[-1]
    statistics: Statistics = "channel" if source.name in BY_CHANNEL else (halves, halves)
    federation = Federation(example_table(source, statistics), population([0], [split]))
    hidden = HIDDEN if terms.model == "mlp" else None
    model = build_model(
        terms.model, input_shape=source.input_shape, n_classes=terms.n_classes, hidden=hidden
    )
    made, hparams = BUILDERS[terms.method](model, terms, execution)
    return Setting(terms, everywhere(federation, execution), made, hparams)


def _fedavg(model: Model, terms: Terms, execution: Execution):
    return fedavg(model, **_shared(terms, execution)), rates(terms.learning_rate)


def _fd(model: Model, terms: Terms, execution: Execution):
    method = fd(model, form="htfllib", **_shared(terms, execution))
    local = rates(terms.learning_rate)
    return method, FdRates(local, jnp.float32(terms.weight), jnp.float32(1))


def _fedproto(model: Model, terms: Terms, execution: Execution):
    method = fedproto(model, form="htfllib", **_shared(terms, execution))
    return method, FedProtoRates(rates(terms.learning_rate), jnp.float32(terms.weight))


BUILDERS: dict[str, Callable[[Model, Terms, Execution], tuple[Method, Any]]] = {
    "fedavg": _fedavg,
    "fd": _fd,
    "fedproto": _fedproto,
}


def _shared(terms: Terms, execution: Execution) -> dict[str, Any]:
    return {
        "epochs": 1,
        "batch_size": terms.batch_size,
        "execution": execution,
        "order": "as_stored",
    }


def job_of(case: Setting, source: Source, split: UserSplit) -> Job:
    """What the other side is given: the same, with our first weights."""
    state = jax.jit(case.method.init)(case.federation)
    table = case.federation.table
    pooled = [source.train_inputs, source.test_inputs]
    return Job(
        case.terms,
        np.concatenate(pooled),
        np.asarray(table.mean),
        np.asarray(table.std),
        source.labels,
        list(split.train),
        list(split.test),
        weights_of(case, state),
    )


def weights_of(case: Setting, state: Any) -> dict[str, np.ndarray]:
    """The models that clients predict with, [K, ...]; one of the server's, [1, ...], for FedAvg."""
    view = "head" if case.terms.method == "fedproto" else "model"
    (predictor,) = case.method.predict(state, case.federation)[view]
    flat = flatten_dict(predictor.stack["params"], sep="/")
    return {str(name): np.asarray(leaf) for name, leaf in flat.items()}
