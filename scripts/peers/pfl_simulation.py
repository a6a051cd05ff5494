"""pfl (pfl-research): its FedAvg in its simulated backend, with a PyTorch model.

The central iterations are pfl's own loop, asked for one more iteration every round. Clients are
visited once a round by pfl's `minimize_reuse` sampler. A user's dataset is his examples as tensors
in the round's order; pfl cuts it into batches. Evaluation, which pfl makes in its iteration 0, is
outside the measured rounds.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from typing import Any

import torch  # pyright: ignore[reportMissingImports]
import torch.nn.functional as F  # pyright: ignore[reportMissingImports]
from pfl.aggregate.simulate import (  # pyright: ignore[reportMissingImports]
    SimulatedBackend,
)
from pfl.aggregate.weighting import (  # pyright: ignore[reportMissingImports]
    WeightByDatapoints,
)
from pfl.algorithm.base import NNAlgorithmParams  # pyright: ignore[reportMissingImports]
from pfl.algorithm.federated_averaging import (  # pyright: ignore[reportMissingImports]
    FederatedAveraging,
)
from pfl.data.dataset import Dataset  # pyright: ignore[reportMissingImports]
from pfl.data.federated_dataset import FederatedDataset  # pyright: ignore[reportMissingImports]
from pfl.data.sampling import get_user_sampler  # pyright: ignore[reportMissingImports]
from pfl.hyperparam import (  # pyright: ignore[reportMissingImports]
    NNEvalHyperParams,
    NNTrainHyperParams,
)
from pfl.model.pytorch import PyTorchModel  # pyright: ignore[reportMissingImports]

from . import torch_training as training
from .job import Job
from .protocol import Contestant, serve
from .torch_sequential import FORMATS


def prepare(job: Job, options: dict[str, Any]) -> Contestant:
    """A contestant for FedAvg, of the memory format in `options["format"]`."""
    logging.disable(logging.INFO)
    torch.set_num_threads(int(options["threads"]))
    data, terms = training.data_of(job), job.terms
    (module,) = training.modules(job, FORMATS[options["format"]])

    def loss(inputs, labels):
        return F.cross_entropy(module(inputs), labels)

    # pfl asks the module for both; nothing is evaluated within a measured round
    module.loss = loss
    module.metrics = lambda inputs, labels: {}
    model = PyTorchModel(
        module,
        local_optimizer_create=functools.partial(torch.optim.SGD, fused=True),
        central_optimizer=torch.optim.SGD(module.parameters(), lr=1.0),
    )
    now = [0]

    def dataset_of(user: int) -> Dataset:
        order = data.order[now[0], user]
        return Dataset([data.inputs[user][order], data.labels[user][order]], user_id=str(user))

    users = list(range(job.n_clients))
    backend = SimulatedBackend(
        training_data=FederatedDataset(dataset_of, get_user_sampler("minimize_reuse", users)),
        val_data=None,
        postprocessors=[WeightByDatapoints()],
    )
    local = NNTrainHyperParams(
        local_learning_rate=terms.learning_rate,
        local_num_epochs=1,
        local_batch_size=terms.batch_size,
    )
    algorithm = FederatedAveraging()

    def round_(index: int) -> None:
        now[0] = index
        asked = NNAlgorithmParams(
            central_num_iterations=index + 1,
            evaluation_frequency=10**9,
            train_cohort_size=job.n_clients,
            val_cohort_size=None,
        )
        with contextlib.redirect_stdout(None):
            algorithm.run(
                asked, backend, model, local, NNEvalHyperParams(local_batch_size=None), [],
                send_metrics_to_platform=False,
            )  # fmt: skip

    return Contestant(
        training.count_parameters(module), round_, lambda: training.accuracy([module], job)
    )


if __name__ == "__main__":
    serve(prepare, ("pfl", "torch", "numpy"))
