"""Ours: rounds of `fedjax_kd`'s methods, as its studies run them.

On a CPU: one device for each core, each of one thread. How the clients are run is chosen as a study
chooses it, by a short trial before the first round. The state is donated, so that a round writes
its result over its input. Which kernels are used is read from the environment by the package.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fedjax_kd.study.environment import prepare_backend

prepare_backend()

import jax
import jax.numpy as jnp

from fedjax_kd.data import load_source
from fedjax_kd.kernels import native_status
from fedjax_kd.methods.contract import Round
from fedjax_kd.training import accuracy, default_execution
from fedjax_kd.training.optimiser import rates
from fedjax_kd.training.trial import choose_execution

from .job import Job
from .ours_setting import SOURCE, model_of, models_of, setting, start_of
from .protocol import Contestant, serve


def prepare(job: Job, options: dict[str, Any]) -> Contestant:
    """A contestant for the job.

    Raises:
        RuntimeError: if `options["native"]` asks for native kernels and there are none.
    """
    if options["native"] and not native_status().available:
        raise RuntimeError(f"there are no native kernels: {native_status().reason}")
    source = load_source(SOURCE)
    trial = choose_execution(
        model_of(job.terms, source),
        batch_size=job.terms.batch_size,
        counts=[len(rows) for rows in job.rows],
        values=rates(job.terms.learning_rate),
        execution=default_execution(),
        forms=options["forms"],
        memory=Path(options["job"]).with_name("trials.json"),
    )
    case = setting(job.terms, source, job.rows, job.test_rows, trial.execution)
    everybody = jnp.ones(job.n_clients, bool)
    step = jax.jit(case.method.round, donate_argnums=0)
    state = [start_of(case)]

    def round_(index: int) -> None:
        now = Round(jnp.int32(index), everybody)
        state[0], _ = step(state[0], case.federation, case.hparams, now)
        jax.block_until_ready(state[0])

    @jax.jit
    def scores(stack):
        rows = case.federation.people.common_test
        table = case.federation.table

        def one(variables):
            return accuracy(case.model, variables, table, rows.indices[0], rows.counts[0])

        return jnp.mean(jax.lax.map(one, stack))

    def evaluate() -> float:
        stack = models_of(case.method, state[0], case.federation)
        here = jax.device_put(jax.device_get(stack), jax.devices()[0])
        return float(scores(here))

    return Contestant(job.n_parameters, round_, evaluate, note=trial.execution.label)


def facts() -> dict[str, str]:
    """What the versions do not say."""
    return {"native kernels": native_status().instruction_set or "none"}


if __name__ == "__main__":
    serve(prepare, ("fedjax-kd", "jax", "jaxlib", "flax", "numpy"), facts)
