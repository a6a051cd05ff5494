"""Two PyTorch workers of one thread and one core each, which share the clients between them.

The server's model, what the workers add up, and the class tables lie in memory that all processes
share, so nothing is pickled: a round is one short message to each worker and one back, and the
server's sum over what the workers left there.
"""

from __future__ import annotations

import os
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import torch  # pyright: ignore[reportMissingImports]
import torch.multiprocessing as processes  # pyright: ignore[reportMissingImports]

from . import torch_training as training
from .job import Job, load_job
from .protocol import Contestant, serve
from .torch_sequential import FORMATS

N_WORKERS = 2


class Shared(NamedTuple):
    """Tensors in shared memory.

    Attributes:
        models: state [V, parameters]: the server's model, or every client's.
        totals: [workers, parameters], weighted sums of models; FedAvg only.
        sums: [K, C, C], summed outputs by class.
        counts: [K, C].
        tables: [K, C, C].
    """

    models: torch.Tensor
    totals: torch.Tensor
    sums: torch.Tensor
    counts: torch.Tensor
    tables: torch.Tensor


def flat(
    model: torch.nn.Module, vector: torch.Tensor | None = None
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """One vector (the given one or a new one) that holds a module's parameters; and those."""
    parameters = list(model.parameters())
    given = torch.empty(training.count_parameters(model)) if vector is None else vector
    start = 0
    for leaf in parameters:
        piece = given[start : start + leaf.numel()].as_strided(leaf.shape, leaf.stride())
        piece.copy_(leaf.data)
        leaf.data = piece
        start += leaf.numel()
    return given, parameters


def work(which: int, pipe: Connection, job_path: str, form: str, shared: Shared, core: int) -> None:
    """What a worker does until it is told to stop."""
    os.sched_setaffinity(0, {core})
    torch.set_num_threads(1)
    job = load_job(Path(job_path))
    data, terms = training.data_of(job), job.terms
    mine = range(which, job.n_clients, N_WORKERS)
    models = training.modules(job, FORMATS[form])
    if terms.method == "fedavg":
        flats = {0: flat(models[0])}
    else:
        flats = {client: flat(models[client], shared.models[client]) for client in mine}
    with_table = False
    while (index := pipe.recv()) is not None:
        if terms.method == "fedavg":
            vector, parameters = flats[0]
            total = shared.totals[which].zero_()
            for client in mine:
                vector.copy_(shared.models[0])
                training.train(models[0], parameters, data, client, index, terms)
                total.add_(vector, alpha=job.n_examples)
        else:
            for client in mine:
                training.train_towards(
                    models[client], flats[client][1], data, client, index, terms,
                    shared.tables[client] if with_table else None,
                    shared.sums[client], shared.counts[client],
                )  # fmt: skip
            with_table = True
        pipe.send(index)


def prepare(job: Job, options: dict[str, Any]) -> Contestant:
    """Starts the workers on the cores that this process may use."""
    torch.set_num_threads(1)
    terms = job.terms
    models = training.modules(job, FORMATS[options["format"]])
    flats = [flat(model) for model in models]
    size = terms.n_classes
    shared = Shared(
        models=torch.stack([vector for vector, _ in flats]).share_memory_(),
        totals=torch.zeros(N_WORKERS, len(flats[0][0])).share_memory_(),
        sums=torch.zeros(job.n_clients, size, size).share_memory_(),
        counts=torch.zeros(job.n_clients, size).share_memory_(),
        tables=torch.zeros(job.n_clients, size, size).share_memory_(),
    )
    cores = sorted(os.sched_getaffinity(0))
    context = processes.get_context("spawn")
    pipes, workers = [], []
    for which in range(N_WORKERS):
        here, there = context.Pipe()
        arguments = (
            which, there, options["job"], options["format"], shared, cores[which % len(cores)]
        )  # fmt: skip
        worker = context.Process(target=work, args=arguments, daemon=True)
        worker.start()
        pipes.append(here)
        workers.append(worker)

    def round_(index: int) -> None:
        for pipe in pipes:
            pipe.send(index)
        for pipe in pipes:
            pipe.recv()
        if terms.method == "fedavg":
            torch.sum(shared.totals, 0, out=shared.models[0])
            shared.models[0].div_(job.n_clients * job.n_examples)
        else:
            shared.tables.copy_(training.tables_for_clients(shared.sums, shared.counts))

    def evaluate() -> float:
        for (vector, _), leaf in zip(flats, shared.models, strict=True):
            vector.copy_(leaf)
        torch.set_num_threads(N_WORKERS)
        found = training.accuracy(models, job)
        torch.set_num_threads(1)
        return found

    def close() -> None:
        for pipe, worker in zip(pipes, workers, strict=True):
            pipe.send(None)
            worker.join()

    return Contestant(training.count_parameters(models[0]), round_, evaluate, close)


if __name__ == "__main__":
    serve(prepare, ("torch", "numpy"))
