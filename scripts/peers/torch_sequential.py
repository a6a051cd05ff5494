"""PyTorch, one client after another, with as many threads as the machine has cores."""

from __future__ import annotations

from typing import Any

import torch  # pyright: ignore[reportMissingImports]

from . import torch_training as training
from .job import Job
from .protocol import Contestant, serve

FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def prepare(job: Job, options: dict[str, Any]) -> Contestant:
    """A contestant of the memory format in `options["format"]`."""
    torch.set_num_threads(int(options["threads"]))
    data, terms = training.data_of(job), job.terms
    models = training.modules(job, FORMATS[options["format"]])
    parameters = [list(model.parameters()) for model in models]

    if terms.method == "fedavg":
        (model,), (weights,) = models, parameters
        server = [leaf.detach().clone() for leaf in weights]
        total = [torch.zeros_like(leaf) for leaf in server]

        def round_(index: int) -> None:
            torch._foreach_zero_(total)
            for client in range(job.n_clients):
                with torch.no_grad():
                    torch._foreach_copy_(weights, server)
                training.train(model, weights, data, client, index, terms)
                with torch.no_grad():
                    torch._foreach_add_(total, weights, alpha=job.n_examples)
            torch._foreach_copy_(server, total)
            torch._foreach_div_(server, job.n_clients * job.n_examples)

        def evaluate() -> float:
            with torch.no_grad():
                torch._foreach_copy_(weights, server)
            return training.accuracy(models, job)

        return Contestant(training.count_parameters(model), round_, evaluate)

    size = terms.n_classes
    sums = torch.zeros(job.n_clients, size, size)
    counts = torch.zeros(job.n_clients, size)
    tables: list[torch.Tensor | None] = [None] * job.n_clients

    def round_(index: int) -> None:
        for client, (model, weights) in enumerate(zip(models, parameters, strict=True)):
            training.train_towards(
                model, weights, data, client, index, terms,
                tables[client], sums[client], counts[client],
            )  # fmt: skip
        tables[:] = training.tables_for_clients(sums, counts)

    return Contestant(
        training.count_parameters(models[0]), round_, lambda: training.accuracy(models, job)
    )


if __name__ == "__main__":
    serve(prepare, ("torch", "numpy"))
