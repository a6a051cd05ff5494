"""Flower: its FedAvg strategy in its simulation engine, with Ray actors of one core each.

The server's part is the body of the loop in Flower's `Strategy.start`, one turn of it for every
round asked for. As it comes, the engine looks for finished clients every tenth of a second, which
would cost short rounds dearly: it is made to look every hundredth.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
from typing import Any

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

from flwr.app import (  # pyright: ignore[reportMissingImports]
    ArrayRecord,
    ConfigRecord,
    Context,
)
from flwr.serverapp import Grid, ServerApp  # pyright: ignore[reportMissingImports]
from flwr.serverapp.strategy import FedAvg  # pyright: ignore[reportMissingImports]
from flwr.simulation import run_simulation  # pyright: ignore[reportMissingImports]

from . import torch_training as training
from .flower_client import app as client_app
from .job import Job
from .protocol import Contestant, serve
from .torch_sequential import FORMATS

PULL_INTERVAL_S = 0.01


def prepare(job: Job, options: dict[str, Any]) -> Contestant:
    """Starts a simulation, which then waits for rounds."""
    logging.disable(logging.INFO)
    (module,) = training.modules(job, FORMATS[options["format"]])
    questions: queue.Queue[int | None] = queue.Queue()
    answers: queue.Queue[ArrayRecord | BaseException] = queue.Queue()
    server_app = ServerApp()

    @server_app.main()
    def main(grid: Grid, context: Context) -> None:
        del context
        strategy = FedAvg(
            fraction_train=1.0,
            fraction_evaluate=0.0,
            min_train_nodes=job.n_clients,
            min_available_nodes=job.n_clients,
        )
        if hasattr(grid, "pull_interval"):
            grid.pull_interval = PULL_INTERVAL_S
        arrays = ArrayRecord(module.state_dict())
        while (index := questions.get()) is not None:
            config = ConfigRecord(
                {"job": options["job"], "format": options["format"], "index": index}
            )
            asked = strategy.configure_train(index + 1, arrays, config, grid)
            replies = list(grid.send_and_receive(asked, timeout=3600))
            failed = [reply.error.reason for reply in replies if reply.has_error()]
            if failed or len(replies) != job.n_clients:
                answers.put(RuntimeError(f"{len(replies)} replies, errors {failed[:1]}"))
                continue
            arrays, _ = strategy.aggregate_train(index + 1, replies)
            answers.put(arrays)

    def simulate() -> None:
        try:
            run_simulation(
                server_app=server_app,
                client_app=client_app,
                num_supernodes=job.n_clients,
                backend_config={
                    "init_args": {"num_cpus": int(options["threads"]), "include_dashboard": False},
                    "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
                },
            )
        except BaseException as error:  # whoever waits for an answer must hear of it
            answers.put(error)
            raise

    simulation = threading.Thread(target=simulate, daemon=True)
    simulation.start()
    latest: list[ArrayRecord] = []

    def round_(index: int) -> None:
        questions.put(index)
        answer = answers.get()
        if isinstance(answer, BaseException):
            raise answer
        latest[:] = [answer]

    def evaluate() -> float:
        module.load_state_dict(latest[0].to_torch_state_dict())
        return training.accuracy([module], job)

    def close() -> None:
        questions.put(None)
        simulation.join()

    return Contestant(training.count_parameters(module), round_, evaluate, close)


if __name__ == "__main__":
    serve(prepare, ("flwr", "ray", "torch", "numpy"))
