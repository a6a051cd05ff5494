"""FedProx: FedAvg in which clients are held near the model that they received.

Li et al. 2020, "Federated Optimization in Heterogeneous Networks", arXiv:1812.06127, Algorithm 2
and equation (2):

    theta_k <- local SGD on CE + mu/2 |theta - theta_glob|^2 from theta_glob
    theta_glob <- sum_k n_k theta_k / sum_k n_k    over the participants

The squared distance is over all trainable parameters; running statistics of batch normalisation are
averaged, not held. Several architectures are averaged each by itself, as in FedAvg.

Deviations. The paper draws clients with probability n_k / n and averages them equally; here, as for
FedAvg, whoever takes part is weighed by n_k. Its inexact local work, where slow clients stop after
fewer epochs (a gamma_k-inexact solution), is out of scope: all clients take all their epochs.

With mu = 0 it is FedAvg. The paper tunes mu in {0.001, 0.01, 0.1, 1}, and uses 1 on its synthetic
data.
"""

from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from fedjax_kd.exchange import Channel, exact
from fedjax_kd.methods.client_work import AtHand, Examples, Loss, Training
from fedjax_kd.methods.contract import Method
from fedjax_kd.methods.local import label_loss
from fedjax_kd.methods.parameter_average import averaging
from fedjax_kd.models import Model
from fedjax_kd.training import Execution, Rates
from fedjax_kd.training.local_update import Order


@struct.dataclass
class FedProxRates:
    """Traced hyper-parameters of FedProx.

    Attributes:
        optimiser: rates of local SGD.
        proximal: mu >= 0, what the squared distance from the received model weighs, twice.
        upload: the channel's numbers, see `exchange.traced_numbers`; `()` for none.
    """

    optimiser: Rates
    proximal: jax.Array
    upload: Any = ()


@lru_cache(maxsize=64)  # equal arguments give one method, and so one compiled program
def fedprox(
    models: Model | tuple[Model, ...],
    *,
    epochs: int,
    batch_size: int,
    execution: Execution,
    upload: Channel = exact(),  # noqa: B008
    order: Order = "shuffled",
) -> Method:
    """FedProx; its hyper-parameters are `FedProxRates`.

    `State.server` holds the servers' models [S, ...], or a tuple with those of each group;
    `State.clients` holds what the channel remembers. Both start as in `fedavg`.

    Args:
        models: one architecture for all, or one per group of the federation.
        epochs: local epochs per round.
        batch_size: examples per step.
        execution: how the client axis is run.
        upload: what the models go through; see `parameter_upload`. The server needs sums only.
        order: of a client's examples; see `training.local_update`.

    Returns:
        A method with the view `model`.

    Raises:
        ValueError: if the models differ in their inputs or classes.
    """
    training = Training(epochs, batch_size, execution, order)
    return averaging(held_near, models, training, upload)


def held_near(model: Model, at: AtHand) -> Loss:
    """CE + mu/2 |theta - theta_glob|^2 of a client, theta_glob the model that it has received."""
    labelled = label_loss(model)

    def loss(params, stats, examples: Examples):
        losses, stats = labelled(params, stats, examples)
        received = at.server["params"]
        squares = jax.tree.map(lambda own, far: jnp.sum((own - far) ** 2), params, received)
        return losses + at.numbers.proximal / 2.0 * sum(jax.tree.leaves(squares)), stats

    return loss
