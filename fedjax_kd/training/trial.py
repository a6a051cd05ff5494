"""Which form runs the clients fastest: a short measured trial per architecture.

The best form depends on the architecture, the batch size, the number of clients and the backend,
and no rule we know predicts it. So a few steps of local training on random examples are timed in
each form that can win, and the winner is what a study then uses for that architecture. The outcome
belongs in the study's manifest: two forms agree to rounding, not bit for bit.
"""

import json
import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
import optax

from fedjax_kd.data import ExampleTable, gather
from fedjax_kd.distill import masked_mean
from fedjax_kd.kernels.native import current_form, native_status
from fedjax_kd.models import Model
from fedjax_kd.training.client_loop import run_clients
from fedjax_kd.training.execution import Execution, everywhere, parse_form
from fedjax_kd.training.local_update import local_update
from fedjax_kd.training.optimiser import Rates, sgd
from fedjax_kd.training.processes import from_first, slowest

STEPS, MOST_STEPS, REPEATS = 3, 12, 5
CLIENTS_PER_DEVICE = 8
ADVANTAGE = 1.1
"""How many times faster than the platform's usual form another one has to be, to be chosen."""


class Trial(NamedTuple):
    """What was measured for one architecture.

    Attributes:
        execution: the choice.
        examples_per_s: form -> training examples per second on all devices together.
        batch_size: examples per step.
        n_clients: clients that a program of the study trains.
        measured: False if the figures are those of an earlier trial on this machine.
    """

    execution: Execution
    examples_per_s: dict[str, float]
    batch_size: int
    n_clients: int
    measured: bool

    def row(self, model: Model) -> dict[str, Any]:
        """The trial as it stands in a manifest."""
        return {
            "architecture": model.name,
            "batch_size": self.batch_size,
            "clients": self.n_clients,
            "form": self.execution.label,
            "examples_per_s": {k: round(v, 1) for k, v in self.examples_per_s.items()},
            "measured": self.measured,
        }


def candidates(platform: str, n_clients: int, n_devices: int) -> tuple[str, ...]:
    """The forms worth a trial, the platform's usual one first.

    Args:
        platform: of the devices.
        n_clients: clients of a program, over all devices.
        n_devices: devices.

    Returns:
        Forms as `parse_form` reads them.
    """
    per_device = -(-n_clients // n_devices)
    if platform == "cpu":
        return ("sequential", "chunked:4") if per_device > 1 else ("sequential",)
    forms = ["vmap"] if per_device <= 128 else []
    forms += [f"chunked:{width}" for width in (8, 32) if width < per_device]
    return tuple(forms) or ("vmap",)


def choose_execution(
    model: Model,
    *,
    batch_size: int,
    counts: Sequence[int],
    values: Rates,
    execution: Execution,
    forms: Sequence[str] | None = None,
    memory: Path | None = None,
) -> Trial:
    """Times the forms and chooses one.

    Args:
        model: the architecture.
        batch_size: examples per step.
        counts: examples of each client that one program trains; uneven ones make forms slower that
            run clients side by side.
        values: rates of the training; what is absent from them is absent from the trial.
        execution: the devices (its form is what is to be replaced).
        forms: what to try, the usual form first; None for `candidates`.
        memory: file that keeps outcomes, so that the same question is answered the same way next
            time without a trial; None asks anew.

    Returns:
        The outcome.

    Raises:
        ValueError: if a form is none of those there are.
    """
    platform, n_clients = execution.devices[0].platform, len(counts)
    forms = candidates(platform, n_clients, execution.n_devices) if forms is None else forms
    if not forms:
        raise ValueError("forms: found none; allowed: one or more of those of parse_form")
    executions = {form: _with_form(execution, form) for form in forms}
    if len(forms) == 1:
        return Trial(executions[forms[0]], {}, batch_size, n_clients, measured=False)
    sizes = _sizes(counts, batch_size, executions)
    question = _question(model, batch_size, sizes, values, execution, forms)
    known = from_first(lambda: _recall(memory, question, forms))
    speeds = known or _speeds(model, batch_size, sizes, values, executions)
    if known is None:
        _remember(memory, question, speeds)
    usual, best = forms[0], max(speeds, key=speeds.__getitem__)
    chosen = best if speeds[best] > ADVANTAGE * speeds[usual] else usual
    return Trial(executions[chosen], speeds, batch_size, n_clients, measured=known is None)


def _with_form(execution: Execution, text: str) -> Execution:
    form, width = parse_form(text)
    return execution._replace(form=form, width=width)


def _sizes(
    counts: Sequence[int], batch_size: int, executions: dict[str, Execution]
) -> tuple[int, ...]:
    """Examples of the trial's clients: as uneven as those of the study, some steps on average.

    There are as many clients as the widest form takes at once, so that none runs half empty.
    """
    n_devices = next(iter(executions.values())).n_devices
    per_device = -(-len(counts) // n_devices)
    widths = [e.width for e in executions.values() if e.form == "chunked"]
    together = per_device if any(e.form == "vmap" for e in executions.values()) else 0
    wanted = n_devices * max([CLIENTS_PER_DEVICE, together, *widths])
    ordered = np.sort(np.asarray(counts, np.float64))
    places = np.linspace(0, len(ordered) - 1, min(len(ordered), wanted)).round().astype(int)
    chosen = ordered[places] / max(ordered[places].mean(), 1.0)
    steps = np.clip(np.round(chosen * STEPS), 1, MOST_STEPS).astype(int)
    # Dealt out so that every device gets large and small ones.
    return tuple(int(n) * batch_size for k in range(n_devices) for n in steps[k::n_devices])


def _speeds(
    model: Model,
    batch_size: int,
    sizes: tuple[int, ...],
    values: Rates,
    executions: dict[str, Execution],
) -> dict[str, float]:
    """Median examples per second of each form, the forms taking turns."""
    programs = {
        form: _program(model, batch_size, sizes, values, execution)
        for form, execution in executions.items()
    }
    times: dict[str, list[float]] = {form: [] for form in programs}
    for repeat in range(REPEATS + 1):
        for form, run in programs.items():
            started = time.perf_counter()
            run()
            if repeat:  # the first call compiles
                times[form].append(time.perf_counter() - started)
    examples = sum(sizes)
    # Processes that chose differently would wait for each other for ever: the slowest one counts.
    return {form: examples / slowest(statistics.median(spent)) for form, spent in times.items()}


def _program(
    model: Model, batch_size: int, sizes: tuple[int, ...], values: Rates, execution: Execution
):
    """A few steps of local training of some clients on random examples, ready to be called."""
    n_rows, n_clients = max(sizes), len(sizes)
    draws = np.random.default_rng(0)
    channels = (1,) * len(model.input_shape[:-1]) + model.input_shape[-1:]
    table = ExampleTable(
        inputs=jnp.asarray(draws.standard_normal((n_rows, *model.input_shape)), jnp.float32),
        labels=jnp.asarray(draws.integers(0, model.n_classes, n_rows), jnp.int32),
        mean=jnp.zeros(channels, jnp.float32),
        std=jnp.ones(channels, jnp.float32),
    )

    def one_client(variables, inputs, shared):
        key, count = inputs
        table, values = shared

        def batch_loss(params, stats, batch):
            inputs, labels = gather(table, batch.positions)
            logits, stats = model.apply(
                {"params": params, "stats": stats}, inputs, train=True, mask=batch.mask
            )
            losses = optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels)
            return masked_mean(losses, batch.mask), stats

        return local_update(
            key,
            variables,
            count,
            batch_loss,
            sgd(values),
            capacity=n_rows,
            epochs=1,
            batch_size=batch_size,
        )

    @jax.jit
    def prepare():
        keys = jax.vmap(jax.random.key)(jnp.arange(n_clients, dtype=jnp.uint32))
        return jax.vmap(model.init)(keys), keys

    @jax.jit
    def train(stack, inputs, shared):
        active = jnp.ones(n_clients, bool)
        return run_clients(one_client, stack, inputs, shared, active, execution, work=inputs[1])

    stack, keys = everywhere(prepare(), execution)
    inputs = (keys, everywhere(jnp.asarray(sizes, jnp.int32), execution))
    shared = everywhere((table, values), execution)
    return lambda: jax.block_until_ready(train(stack, inputs, shared))


def _question(model, batch_size, sizes, values, execution, forms) -> str:
    """Everything that the outcome may depend on, as text."""
    device, cores = execution.devices[0], os.cpu_count()
    library = native_status().library if current_form() != "canonical" else None
    kernels = library.name if library else "canonical"
    present = [
        name
        for name in ("momentum", "weight_decay", "gradient_clip")
        if getattr(values, name) is not None
    ]
    return " | ".join(
        [
            repr(model),
            f"batch {batch_size}",
            f"sizes {sizes}",
            f"rates {present}",
            f"{execution.n_devices} x {device.platform} {device.device_kind}, {cores} cores",
            f"kernels {kernels}, jaxlib {jaxlib.version.__version__}",
            ",".join(forms),
        ]
    )


def _recall(memory: Path | None, question: str, forms: Sequence[str]) -> dict[str, float] | None:
    known = _read(memory).get(question)
    if isinstance(known, dict) and set(known) == set(forms):
        return {form: float(known[form]) for form in forms}
    return None


def _remember(memory: Path | None, question: str, speeds: dict[str, float]) -> None:
    if memory is None or jax.process_index() > 0:
        return
    known = _read(memory) | {question: speeds}
    temporary = memory.with_suffix(f".{os.getpid()}.part")
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(known, indent=1))
        temporary.replace(memory)
    except OSError:  # a cache that cannot be written costs the next study its trial, no more
        temporary.unlink(missing_ok=True)


def _read(memory: Path | None) -> dict[str, Any]:
    try:
        known = json.loads(memory.read_text()) if memory is not None else {}
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
