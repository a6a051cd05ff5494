"""PyTorch, clients one after another, with as many threads as the machine has cores."""

from __future__ import annotations

from typing import Any

import torch  # pyright: ignore[reportMissingImports]

from . import torch_dfml, torch_on_device_kd, torch_pfedafm
from .job import Job
from .protocol import Contestant, serve
from .torch_training import FORMATS

METHODS = {
    "on_device_kd": torch_on_device_kd.prepare,
    "dfml": torch_dfml.prepare,
    "pfedafm": torch_pfedafm.prepare,
}


def prepare(job: Job, options: dict[str, Any]) -> Contestant:
    """A contestant of the memory format in `options["format"]`."""
    torch.set_num_threads(int(options["threads"]))
    return METHODS[job.terms.method](job, FORMATS[options["format"]])


if __name__ == "__main__":
    serve(prepare, ("torch", "numpy"))
