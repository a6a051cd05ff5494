"""The client side of the Flower contestant; Ray's actors import it.

An actor keeps the job's tensors and one module from call to call, and takes one core.
"""

from __future__ import annotations

import functools
from pathlib import Path

import torch  # pyright: ignore[reportMissingImports]
from flwr.app import (  # pyright: ignore[reportMissingImports]
    ArrayRecord,
    Context,
    Message,
    MetricRecord,
    RecordDict,
)
from flwr.clientapp import ClientApp  # pyright: ignore[reportMissingImports]

from . import torch_training as training
from .job import load_job
from .torch_sequential import FORMATS

app = ClientApp()


@functools.lru_cache(maxsize=1)
def prepared(job_path: str, form: str):
    """The job, its tensors, a module and the module's parameters."""
    torch.set_num_threads(1)
    job = load_job(Path(job_path))
    (module,) = training.modules(job, FORMATS[form])
    return job, training.data_of(job), module, list(module.parameters())


@app.train()
def train(message: Message, context: Context) -> Message:
    """One client's part of a round."""
    config = message.content["config"]
    job, data, module, parameters = prepared(config["job"], config["format"])
    client = int(context.node_config["partition-id"])
    module.load_state_dict(message.content["arrays"].to_torch_state_dict())
    training.train(module, parameters, data, client, config["index"], job.terms)
    answer = {
        "arrays": ArrayRecord(module.state_dict()),
        "metrics": MetricRecord({"num-examples": job.n_examples}),
    }
    return Message(content=RecordDict(answer), reply_to=message)
