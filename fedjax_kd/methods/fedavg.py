"""FedAvg: every client trains the server's model on its own examples, the server averages.

McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from Decentralized Data",
arXiv:1602.05629, Algorithm 1. In DT-KD it trains the teacher over the users' digital twins, and it
is one of the baselines. With a single client per server it is training on pooled data.

State: the server's model, one per study point, or one per architecture and study point.
Round: theta_k <- local SGD from theta;  theta <- sum_k n_k theta_k / sum_k n_k over participants.
Running statistics of batch normalisation are averaged like parameters.

Several architectures are averaged each by itself and learn nothing from each other: the first step
of FedDF (Lin et al. 2020, arXiv:2006.07242), and its baseline.

Expected on the embedded digits (5 users, Dirichlet 0.5): above 90 % on the common test set within
20 rounds of one epoch.
"""

from functools import lru_cache

from fedjax_kd.exchange import Channel, exact
from fedjax_kd.methods.client_work import Training
from fedjax_kd.methods.contract import Method
from fedjax_kd.methods.local import label_loss
from fedjax_kd.methods.parameter_average import averaging
from fedjax_kd.models import Model
from fedjax_kd.training import Execution
from fedjax_kd.training.local_update import Order


@lru_cache(maxsize=64)  # equal arguments give one method, and so one compiled program
def fedavg(
    models: Model | tuple[Model, ...],
    *,
    epochs: int,
    batch_size: int,
    execution: Execution,
    upload: Channel = exact(),  # noqa: B008
    order: Order = "shuffled",
) -> Method:
    """FedAvg; its hyper-parameters are the `Rates` of local SGD, or `SendingRates`.

    `State.server` holds the servers' models [S, ...], or a tuple with those of each group;
    `State.clients` holds what the channel remembers, see `parameter_average`.

    Args:
        models: one architecture for all, or one per group of the federation. (A single one in a
            tuple draws other initial weights than by itself: those that it has in `local`.)
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
    return averaging(lambda model, at: label_loss(model), models, training, upload)
