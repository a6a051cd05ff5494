"""torch.func: all clients' models stacked, one vmapped gradient for a step of all of them."""

from __future__ import annotations

from typing import Any

import torch  # pyright: ignore[reportMissingImports]
import torch.nn.functional as F  # pyright: ignore[reportMissingImports]
from torch.func import functional_call, grad, vmap  # pyright: ignore[reportMissingImports]

from . import torch_models
from . import torch_training as training
from .job import Job
from .protocol import Contestant, serve


def prepare(job: Job, options: dict[str, Any]) -> Contestant:
    """A contestant for the job."""
    torch.set_num_threads(int(options["threads"]))
    data, terms = training.data_of(job), job.terms
    model = torch_models.build(terms.model, terms.n_classes)
    everybody = torch.arange(job.n_clients)[:, None]
    start = torch_models.convert(terms.model, job.weights)

    def loss_of(parameters, inputs, labels, targets):
        log_p = F.log_softmax(functional_call(model, parameters, (inputs,)), 1)
        loss = F.nll_loss(log_p, labels)
        if targets is None:
            return loss, log_p
        soft = F.kl_div(log_p, targets[labels], reduction="batchmean")
        return loss + terms.kl_weight * soft, log_p

    gradient = {
        False: vmap(grad(loss_of, has_aux=True), in_dims=(0, 0, 0, None)),
        True: vmap(grad(loss_of, has_aux=True), in_dims=(0, 0, 0, 0)),
    }

    def train(stack, index, targets, visit) -> None:
        leaves = list(stack.values())
        for rows in data.order[index].split(terms.batch_size, 1):
            labels = data.labels[everybody, rows]
            inputs = data.inputs[everybody, rows]
            gradients, log_p = gradient[targets is not None](stack, inputs, labels, targets)
            torch._foreach_add_(
                leaves, [gradients[key] for key in stack], alpha=-terms.learning_rate
            )
            visit(labels, log_p)

    if terms.method == "fedavg":
        server = {key: leaf[0].clone() for key, leaf in start.items()}

        def round_(index: int) -> None:
            stack = {
                key: leaf.expand(job.n_clients, *leaf.shape).clone() for key, leaf in server.items()
            }
            train(stack, index, None, lambda labels, log_p: None)
            for key, leaf in stack.items():
                torch.mean(leaf, 0, out=server[key])

        def models() -> dict[str, torch.Tensor]:
            return {key: leaf[None] for key, leaf in server.items()}
    else:
        size = terms.n_classes
        stack = {key: leaf.clone() for key, leaf in start.items()}
        sums = torch.zeros(job.n_clients, size, size)
        counts = torch.zeros(job.n_clients, size)
        tables: list[torch.Tensor | None] = [None]

        def collect(labels, log_p) -> None:
            sums.index_put_((everybody, labels), log_p.exp(), accumulate=True)
            counts.scatter_add_(1, labels, torch.ones(labels.shape))

        def round_(index: int) -> None:
            sums.zero_()
            counts.zero_()
            train(stack, index, tables[0], collect)
            tables[0] = training.tables_for_clients(sums, counts)

        def models() -> dict[str, torch.Tensor]:
            return stack

    def evaluate() -> float:
        made = []
        for which in range(len(next(iter(models().values())))):
            made.append(torch_models.build(terms.model, terms.n_classes))
            torch_models.load(made[-1], models(), which)
        return training.accuracy(made, job)

    return Contestant(training.count_parameters(model), round_, evaluate)


if __name__ == "__main__":
    serve(prepare, ("torch", "numpy"))
