"""Ours: rounds of `fedjax_kd`'s methods.

On a CPU: one device for each core, each of one thread, clients one after another on each. The state
is donated, so that a round writes its result over its input. Which kernels are used is read from
the environment by the package.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fedjax_kd.study.environment import prepare_backend

prepare_backend()

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_kd.data import load_source
from fedjax_kd.kernels import native_status
from fedjax_kd.methods.architectures import extractor_flops, head_flops
from fedjax_kd.methods.contract import Round
from fedjax_kd.models import forward_flops, profile
from fedjax_kd.training import default_execution

from .job import Job
from .protocol import Contestant, Done, serve
from .setting import SOURCE, Rows, Setting, setting, start_of, weights_of

SCORED = {"on_device_kd": "target", "dfml": "regular", "pfedafm": "own"}
"""The view of each method that is scored."""


def prepare(job: Job, options: dict[str, Any]) -> Contestant:
    """A contestant for the job.

    Raises:
        RuntimeError: if `options["native"]` asks for native kernels and there are none.
    """
    if options["native"] and not native_status().available:
        raise RuntimeError(f"there are no native kernels: {native_status().reason}")
    terms, source = job.terms, load_source(SOURCE)
    with np.load(Path(options["rows"])) as file:
        rows = Rows(**{name: file[name] for name in Rows._fields})
    execution = default_execution()
    case = setting(terms, source, rows, execution)
    everybody = jnp.ones(terms.clients, bool)
    step = jax.jit(case.method.round, donate_argnums=0)
    state = [start_of(case)]
    asked_of = asked_flops(job, case)

    def round_(number: int) -> Done:
        now = Round(jnp.int32(terms.first_round + number), everybody)
        state[0], report = step(state[0], case.federation, case.hparams, now)
        losses = np.asarray(report.loss).tolist()
        if terms.method == "pfedafm":
            losses += np.asarray(report.extra["shared_loss"]).tolist()
        jax.block_until_ready(state[0])
        asked = asked_of(number)
        for name in ("work_flops", "executed_flops"):
            spent = float(np.asarray(getattr(report, name), np.float64).sum())
            if abs(spent - asked) > 1e-4 * asked:
                raise ValueError(f"{name}: {spent:.6g} in a round; the job's are {asked:.6g}")
        return Done(terms.model_steps, terms.model_steps * terms.batch_size, losses)

    inputs = jnp.asarray(job.arrays["test_inputs"])
    labels = jnp.asarray(job.arrays["test_labels"].astype(np.int32))

    def evaluate() -> tuple[float, float]:
        views = jax.jit(case.method.predict)(state[0], case.federation)
        told = []
        for group in views[SCORED[terms.method]]:
            stack, rows = jax.device_get((group.stack, group.row))
            here = jax.device_put(stack, jax.devices()[0])

            @jax.jit
            def one(variables, logits_of=group.logits):
                log_p = jax.nn.log_softmax(logits_of(variables, inputs))
                loss = -jnp.take_along_axis(log_p, labels[:, None], 1).mean()
                return loss, (log_p.argmax(1) == labels).mean()

            for row in np.unique(rows):
                told.append(one(jax.tree.map(lambda leaf, row=row: leaf[row], here)))
        loss, accuracy = np.mean(told, axis=0)
        return float(loss), float(accuracy)

    return Contestant(round_, lambda: weights_of(terms, state[0]), evaluate, note=execution.label)


def asked_flops(job: Job, case: Setting) -> Callable[[int], float]:
    """`(round) -> float`: operations that the job's steps amount to, by the models' profiles."""
    terms = job.terms
    training = [float(profile(model).training_flops) for model in case.models]
    examples = terms.steps * terms.batch_size
    kinds = np.arange(terms.clients) % len(training)
    if terms.method == "on_device_kd":
        soft = 2 * training[1] + forward_flops(case.models[0])
        of_round = examples * (terms.chosen * training[0] + terms.strong * soft)
        return lambda number: of_round
    if terms.method == "dfml":
        return lambda number: (
            examples * sum(training[kinds[k]] for k in job.arrays["chosen"][number])
        )
    common = case.models[terms.architectures.index(terms.shared)]  # pyright: ignore[reportArgumentType]
    stages = 4 * extractor_flops(common) + 2 * head_flops(common)
    of_round = examples * sum(training[kind] + stages for kind in kinds)
    return lambda number: of_round


def facts() -> dict[str, str]:
    """What the versions do not say."""
    return {"native kernels": native_status().instruction_set or "none"}


if __name__ == "__main__":
    serve(prepare, ("fedjax-kd", "jax", "jaxlib", "flax", "optax", "numpy"), facts)
