"""Ordinary JAX: Flax networks, optax, a jitted step per batch, a Python loop over clients."""

from __future__ import annotations

from typing import Any

from . import jax_dfml, jax_on_device_kd, jax_pfedafm
from .job import Job
from .protocol import Contestant, serve

METHODS = {
    "on_device_kd": jax_on_device_kd.prepare,
    "dfml": jax_dfml.prepare,
    "pfedafm": jax_pfedafm.prepare,
}


def prepare(job: Job, options: dict[str, Any]) -> Contestant:
    """A contestant for the job; there are no options."""
    del options
    return METHODS[job.terms.method](job)


if __name__ == "__main__":
    serve(prepare, ("jax", "jaxlib", "flax", "optax", "numpy"))
