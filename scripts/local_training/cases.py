"""What is timed: local training of K clients, in each of its formulations, and the machine's peak.

Every client trains its own model for a few steps on its own examples with cross entropy and KL to
given logits. Examples are random; their values do not matter.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from fedjax_kd import kernels
from fedjax_kd.data import ExampleTable, gather
from fedjax_kd.distill import distillation_loss, masked_mean
from fedjax_kd.kernels.native.choice import Form
from fedjax_kd.models import Model, build_model, forward_flops
from fedjax_kd.training import (
    Execution,
    everywhere,
    local_update,
    rates,
    run_clients,
    settled,
    sgd,
)
from fedjax_kd.training.execution import parse_form

STEPS = 4
PEAK_SIZE = 1024


class Network(NamedTuple):
    """One of the four networks."""

    title: str
    name: str
    input_shape: tuple[int, ...]
    options: dict[str, Any]


NETWORKS = {
    "cnn": Network("CNN", "cnn1", (32, 32, 3), {}),
    "lenet": Network("LeNet", "lenet", (28, 28, 1), {}),
    "mlp": Network("MLP", "mlp", (28, 28, 1), {"hidden": (256, 128)}),
    "resnet8": Network("ResNet-8", "resnet8", (32, 32, 3), {}),
}
# Formulations: the form of the client axis, and of the kernels.
FORMULATIONS: tuple[tuple[str, Form], ...] = (
    ("sequential", "auto"),
    ("sequential", "canonical"),
    ("chunked:4", "auto"),
    ("chunked:4", "canonical"),
    ("vmap", "auto"),
    ("vmap", "canonical"),
    ("python loop", "canonical"),
)
LABELS = {"auto": "native", "canonical": "canonical"}


def step_flops(model: Model) -> float:
    """Multiplications and additions of a training step per example.

    Forward pass, and gradients of weights and of every layer's input but the first's. Products with
    the zeros of padding do not count.
    """
    forward = forward_flops(model, count_padding=False)
    return 3.0 * forward - _first_layer_flops(model)


def _first_layer_flops(model: Model) -> float:
    """Of the first layer, without products with padding: read off the traced program."""
    variables = jax.eval_shape(model.init, jax.random.key(0))
    example = jax.ShapeDtypeStruct((1, *model.input_shape), jnp.float32)
    with kernels.using("canonical"):
        traced = jax.make_jaxpr(lambda v, x: model.apply(v, x, False)[0])(variables, example)
    found = _first_equation(traced.jaxpr, ("conv_general_dilated", "dot_general"))
    weight = found.invars[1].aval.shape
    if found.primitive.name == "dot_general":
        return 2.0 * weight[0] * weight[1]
    rows, columns, inputs, outputs = weight
    (top, _), (left, _) = found.params["padding"]
    height, width = found.invars[0].aval.shape[1:3]
    out_rows, out_columns = found.outvars[0].aval.shape[1:3]
    down, across = found.params["window_strides"]
    taps = _taps(out_rows, rows, down, top, height) * _taps(
        out_columns, columns, across, left, width
    )
    return 2.0 * taps * inputs * outputs


def _taps(places: int, window: int, stride: int, low: int, size: int) -> int:
    at = np.arange(places)[:, None] * stride - low + np.arange(window)[None, :]
    return int(np.sum((at >= 0) & (at < size)))


def _first_equation(jaxpr: Any, names: tuple[str, ...]) -> Any:
    for equation in jaxpr.eqns:
        if equation.primitive.name in names:
            return equation
        for value in equation.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                found = _first_equation(inner, names)
                if found is not None:
                    return found
    return None


def matrix_product_peak() -> Callable[[], float]:
    """A function that measures GFLOP/s of a large float32 product on all devices at once."""
    size, repeats = PEAK_SIZE, 4
    mesh = Mesh(np.asarray(jax.devices()), ("devices",))
    split = PartitionSpec("devices")

    @jax.jit
    @partial(jax.shard_map, mesh=mesh, in_specs=(split, split), out_specs=split)
    def product(a, b):
        return jax.lax.fori_loop(0, repeats, lambda _, c: a[0] @ c * 1e-3, b[0])[None]

    a = jnp.ones((len(jax.devices()), size, size), jnp.float32)
    jax.block_until_ready(product(a, a))

    def measure() -> float:
        best_s = min(timed(lambda: product(a, a)) for _ in range(3))
        return len(jax.devices()) * repeats * 2 * size**3 / best_s / 1e9

    return measure


def timed(run: Callable[[], Any]) -> float:
    """Seconds until the result of a call is there."""
    begin_s = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - begin_s


class Case(NamedTuple):
    """What all formulations of one case work on."""

    model: Model
    batch_size: int
    clients: int
    execution: Execution
    shared: Any
    inputs: Any


def make_case(network: Network, batch_size: int, clients: int, execution: Execution) -> Case:
    """K clients with their own random examples and soft labels."""
    model = build_model(
        network.name, input_shape=network.input_shape, n_classes=10, **network.options
    )
    rng, rows, held = np.random.default_rng(0), STEPS * batch_size, 4000
    table = ExampleTable(
        inputs=jnp.asarray(rng.integers(0, 256, (held, *network.input_shape)), jnp.uint8),
        labels=jnp.asarray(rng.integers(0, 10, held), jnp.int32),
        mean=jnp.full((1, 1, network.input_shape[-1]), 127.0),
        std=jnp.full((1, 1, network.input_shape[-1]), 60.0),
    )
    inputs = (
        jax.vmap(jax.random.key)(jnp.arange(clients, dtype=jnp.uint32)),
        jnp.asarray(rng.integers(0, held, (clients, rows)), jnp.int32),
        jnp.asarray(rng.standard_normal((clients, rows, 10)), jnp.float32),
    )
    shared = everywhere((table, rates(0.01)), execution)
    return Case(model, batch_size, clients, execution, shared, everywhere(inputs, execution))


def one_client(case: Case):
    """The local update of a client, as `run_clients` takes it."""
    rows_held = STEPS * case.batch_size

    def update(variables, inputs, shared):
        key, rows, soft = inputs
        table, values = shared

        def batch_loss(params, stats, batch):
            examples, labels = gather(table, rows[batch.positions])
            logits, stats = case.model.apply(
                {"params": params, "stats": stats}, examples, train=True, mask=batch.mask
            )
            one = partial(distillation_loss, temperature=jnp.float32(2.0), weight=jnp.float32(0.5))
            everyone = jnp.ones(labels.shape, jnp.float32)
            losses = jax.vmap(one)(logits, labels, soft[batch.positions], everyone)
            return masked_mean(losses, batch.mask), stats

        return local_update(
            key,
            variables,
            jnp.int32(rows_held),
            batch_loss,
            sgd(values),
            capacity=rows_held,
            epochs=1,
            batch_size=case.batch_size,
        )

    return update


class Program(NamedTuple):
    """A compiled formulation: `run()` trains all clients once."""

    run: Callable[[], Any]
    compile_s: float
    temporary_mb: float


def compile_stacked(case: Case, form: str) -> Program:
    """All clients in one program, in one of the engine's forms."""
    name, width = parse_form(form)
    execution = case.execution._replace(form=name, width=width)
    update = one_client(case)

    def train(stack, inputs, shared):
        active = jnp.ones(case.clients, bool)
        stack, loss = run_clients(update, stack, inputs, shared, active, execution)
        return settled(stack, execution, axis="clients"), loss

    @jax.jit
    def init(keys):
        return settled(jax.vmap(case.model.init)(keys), execution, axis="clients")

    stack = init(case.inputs[0])
    begin_s = time.perf_counter()
    compiled = jax.jit(train, donate_argnums=0).lower(stack, case.inputs, case.shared).compile()
    compile_s = time.perf_counter() - begin_s
    held = [stack]

    def run():
        held[0], loss = compiled(held[0], case.inputs, case.shared)
        return loss

    return Program(run, compile_s, temporary_mb(compiled))


def temporary_mb(compiled: Any) -> float:
    """Scratch memory of a compiled program, of one device."""
    return compiled.memory_analysis().temp_size_in_bytes / 1e6


def compile_python_loop(case: Case) -> Program:
    """One jitted update, called for one client after another from Python."""
    update = jax.jit(one_client(case), donate_argnums=0)
    models = [case.model.init(key) for key in case.inputs[0]]
    inputs = [jax.tree.map(lambda leaf: leaf[k], case.inputs) for k in range(case.clients)]  # noqa: B023
    device = jax.devices()[0]
    models, inputs, shared = jax.device_put((models, inputs, case.shared), device)
    begin_s = time.perf_counter()
    compiled = update.lower(models[0], inputs[0], shared).compile()
    compile_s = time.perf_counter() - begin_s

    def run():
        losses = []
        for k in range(case.clients):
            models[k], loss = update(models[k], inputs[k], shared)
            losses.append(loss)
        return losses

    return Program(run, compile_s, temporary_mb(compiled))


def worth_trying(network: str, form: str, kernel_form: str, clients: int) -> bool:
    """Leaves out what is known to take minutes: vmapped canonical convolutions of many clients."""
    together = form == "vmap" or form.startswith("chunked")
    if network == "mlp" or not together or kernel_form == "auto":
        return True
    return clients <= 8 and form == "vmap"
