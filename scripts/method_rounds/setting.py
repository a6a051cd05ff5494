"""How the benchmark's terms read in `fedjax_kd`: architectures, clients, method and its numbers.

Used by our own contestants, and by the driver, which takes first weights, roles and batch orders
from here for all the others.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from fedjax_kd.clients import groups_by_turns, population
from fedjax_kd.data import Source, UserSplit, example_table
from fedjax_kd.methods.contract import Federation, Method, State
from fedjax_kd.methods.dfml import DfmlRates, dfml
from fedjax_kd.methods.on_device_kd import OnDeviceKdRates, on_device_kd
from fedjax_kd.methods.pfedafm import PFedAfmRates, pfedafm
from fedjax_kd.models import Model, build_model
from fedjax_kd.training import Execution, Rates, everywhere, rates

from .job import Terms, Weights, named

SOURCE = "fashion_mnist"
RAMP_ROUNDS = 300
"""Of on-device KD, as in the code of arXiv:2503.11151."""


class Rows(NamedTuple):
    """Who holds which rows of the data set.

    Attributes:
        train: int32 [K, n].
        soft: int32 [strong, u], rows held without labels.
        test: int32 [T].
    """

    train: np.ndarray
    soft: np.ndarray
    test: np.ndarray


class Setting(NamedTuple):
    """Everything that a round of ours takes.

    Attributes:
        models: the architectures, in the order of the terms.
        federation: the clients and their examples.
        method: as `fedjax_kd` offers it.
        hparams: its traced numbers.
    """

    models: tuple[Model, ...]
    federation: Federation
    method: Method
    hparams: Any


def setting(terms: Terms, source: Source, rows: Rows, execution: Execution) -> Setting:
    """The terms as objects of the package.

    Args:
        terms: the numbers.
        source: the data set.
        rows: who holds what.
        execution: how the client axis is run.

    Returns:
        The setting.
    """

    def model_of(architecture):
        name, width = architecture
        shape = {"input_shape": source.input_shape, "n_classes": terms.n_classes}
        return build_model(name, width=width, **shape)

    models = tuple(model_of(architecture) for architecture in terms.architectures)
    held = tuple(rows.train)
    nothing = tuple(row[:1] for row in held)  # users' own held-out parts, which nobody looks at
    unlabelled = (*rows.soft, *(row[:0] for row in held[terms.strong :])) if terms.strong else ()
    split = UserSplit(held, nothing, nothing, rows.test[:1], rows.test, unlabelled=unlabelled)
    people = population([terms.seed], [split])
    by_turns = terms.method != "on_device_kd"
    groups = groups_by_turns(people, len(models)) if by_turns else ()
    federation = everywhere(Federation(example_table(source), people, groups), execution)
    clipped = _rates(terms, terms.gradient_clip)
    common = {"batch_size": terms.batch_size, "execution": execution}
    if terms.method == "on_device_kd":
        auxiliary, target = models
        method = on_device_kd(
            auxiliary,
            target,
            strong=terms.strong,
            cohort=terms.chosen,
            steps=terms.passes,
            **common,
        )
        hparams = OnDeviceKdRates(
            auxiliary=clipped,
            target=clipped,
            temperature=jnp.float32(terms.temperature),
            weight=jnp.float32(0.5),
            ramp_rounds=jnp.float32(RAMP_ROUNDS),
        )
    elif terms.method == "dfml":
        method = dfml(models, senders=terms.chosen - 1, epochs=terms.passes, **common)
        hparams = DfmlRates(
            optimiser=clipped,
            alpha_max=jnp.float32(1),
            temperature=jnp.float32(terms.temperature),
            peak_floor=jnp.float32(0.9),
        )
    else:
        method = pfedafm(models, model_of(terms.shared), epochs=terms.passes, **common)
        hparams = PFedAfmRates(local=clipped, shared=clipped, mixing=_rates(terms, 0.0))
    return Setting(models, federation, method, hparams)


def _rates(terms: Terms, clip: float) -> Rates:
    return rates(terms.learning_rate, terms.momentum, terms.weight_decay, clip)


def start_of(case: Setting) -> State:
    """The method's state before the first round."""
    return jax.jit(case.method.init)(case.federation)


def weights_of(terms: Terms, state: State) -> Weights:
    """A state's parameters under the names that a job has for them."""
    if terms.method == "on_device_kd":
        models = state.server
        found = named("auxiliary", _flat(models.auxiliary["params"], 0))
        return found | named("target", _flat(models.target["params"], 0))
    found, kinds = {}, len(terms.architectures)
    for k in range(terms.clients):
        clients = state.clients[k % kinds]
        variables = clients.models if terms.method == "dfml" else clients.model
        found |= named(f"client{k}", _flat(variables["params"], k // kinds))
    if terms.method == "pfedafm":
        found |= named("shared", _flat(state.server.theta["params"], 0))
    return found


def _flat(params: Any, row: int) -> Weights:
    flat: dict[str, Any] = flatten_dict(params, sep="/")  # pyright: ignore[reportAssignmentType]
    return {name: np.asarray(leaf[row]) for name, leaf in flat.items()}
