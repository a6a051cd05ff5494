"""How the benchmark's terms read in `fedjax_kd`: model, clients, method and its numbers.

Used by our own contestants, and by the driver, which takes first weights and batch orders from here
for all the others.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_kd.clients import population
from fedjax_kd.data import Source, UserSplit, example_table
from fedjax_kd.methods.contract import Federation, Method
from fedjax_kd.methods.fd import FdRates, fd
from fedjax_kd.methods.fedavg import fedavg
from fedjax_kd.models import Model, build_model
from fedjax_kd.training import Execution, everywhere, rates

from .job import Terms

SOURCE = "fashion_mnist"


class Setting(NamedTuple):
    """Everything that a round of ours takes.

    Attributes:
        model: the architecture.
        federation: the clients and their examples.
        method: FedAvg or FD, as `fedjax_kd` offers it.
        hparams: its traced numbers.
    """

    model: Model
    federation: Federation
    method: Method
    hparams: Any


def model_of(terms: Terms, source: Source) -> Model:
    """The architecture."""
    hidden = (256, 128) if terms.model == "mlp" else None
    return build_model(
        terms.model, input_shape=source.input_shape, n_classes=terms.n_classes, hidden=hidden
    )


def setting(
    terms: Terms, source: Source, rows: np.ndarray, test_rows: np.ndarray, execution: Execution
) -> Setting:
    """The terms as objects of the package.

    Args:
        terms: the numbers.
        source: the data set.
        rows: int32 [K, n], each client's examples.
        test_rows: int32 [T].
        execution: how the client axis is run.

    Returns:
        The setting.
    """
    model = model_of(terms, source)
    held = tuple(row.astype(np.int32) for row in rows)
    nothing = tuple(row[:1] for row in held)  # users' own held-out parts, which nobody looks at
    split = UserSplit(held, nothing, nothing, test_rows[:1], test_rows)
    federation = Federation(example_table(source), population([terms.seed], [split]))
    options = {"epochs": 1, "batch_size": terms.batch_size, "execution": execution}
    if terms.method == "fedavg":
        method, hparams = fedavg(model, **options), rates(terms.learning_rate)
    else:
        method = fd(model, **options)
        hparams = FdRates(
            optimiser=rates(terms.learning_rate),
            weight=jnp.float32(terms.kl_weight),
            temperature=jnp.float32(1.0),
        )
    return Setting(model, everywhere(federation, execution), method, hparams)


def models_of(method: Method, state: Any, federation: Federation) -> Any:
    """The stacked variables [V, ...] that clients predict with."""
    return method.predict(state, federation)["model"][0].stack


def start_of(case: Setting) -> Any:
    """The method's state before the first round."""
    return jax.jit(case.method.init)(case.federation)
