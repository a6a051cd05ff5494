"""A tiny federation of digits and every method's rounds on it: what the laws compare.

Two study points with three users each, who hold 9, 4 and 6 images (in another order at the second
point). Three rounds: everybody, some, and one in which the second point's users are all away.
Nothing here depends on pytest, so that another process may run the same reference.
"""

from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from fedjax_kd.clients import Population, population
from fedjax_kd.data import IndexTable, UserSplit, example_table, load_source
from fedjax_kd.methods.catalog import METHODS
from fedjax_kd.methods.contract import Federation, Method, Round
from fedjax_kd.methods.dt_kd import DistillationRates, distil, init_students
from fedjax_kd.methods.fd import FdRates
from fedjax_kd.models import Model, build_model
from fedjax_kd.training import Execution, everywhere, for_points, rates
from fedjax_kd.training.execution import FORMS, mesh_of

SEEDS = (0, 1)
SIZES = ((9, 4, 6), (6, 9, 4))
N_CLIENTS = 6
EPOCHS, BATCH_SIZE = 2, 4
ACTIVE = np.array([[1, 1, 1, 1, 1, 1], [1, 0, 1, 0, 1, 1], [1, 1, 0, 0, 0, 0]], bool)
HPARAMS: dict[str, Any] = {
    "fedavg": lambda: rates(0.1),
    "fd": lambda: FdRates(rates(0.1), jnp.float32(1), jnp.float32(2)),
}
"""By method; large steps and no zero, so that an error of one form could not hide."""

DT_KD = "dt_kd"
NAMES = (*METHODS, DT_KD)


class Programs(NamedTuple):
    """A method with its functions compiled."""

    method: Method
    init: Any
    round: Any


@cache
def model() -> Model:
    return build_model("mlp", input_shape=(8, 8, 1), n_classes=10, hidden=(8,))


@cache
def federation() -> Federation:
    source = load_source("digits")
    splits = []
    for seed, sizes in zip(SEEDS, SIZES, strict=True):
        order = np.random.default_rng(seed).permutation(len(source.train_labels)).astype(np.int32)
        parts = np.split(order[: sum(sizes) + 8], np.cumsum(sizes))
        small = tuple(np.split(parts[-1][:6], 3))
        splits.append(UserSplit(tuple(parts[:-1]), small, small, parts[-1][6:], parts[-1][6:]))
    return Federation(table=example_table(source), people=population(SEEDS, splits))


@cache
def programs(name: str, execution: Execution) -> Programs:
    """One method as compiled functions; asking again gives the same ones."""
    method = METHODS[name].build(model(), epochs=EPOCHS, batch_size=BATCH_SIZE, execution=execution)
    return Programs(method, jax.jit(method.init), jax.jit(method.round))


def executions() -> dict[str, Execution]:
    """Every form that `fedjax_kd.training` offers, on one device and on two, by a readable name."""
    devices = jax.devices()
    found = {}
    for form in FORMS:
        for used in (1, 2):
            execution = Execution(form, tuple(devices[:used]), width=2)
            found[f"{execution.label} on {used}"] = execution
    by_point = for_points(Execution("sequential", tuple(devices[:2])), len(SEEDS))
    return found | {"sequential, a device per point": by_point}


def reference_execution() -> Execution:
    return Execution("sequential", tuple(jax.devices()[:1]))


def hparams(name: str, factors=(1.0, 1.0)):
    """A method's hyper-parameters as one value per study point: its own times a factor each."""
    return jax.tree.map(lambda leaf: leaf * jnp.asarray(factors, jnp.float32), HPARAMS[name]())


def rounds() -> Round:
    """All rounds, stacked."""
    return Round(index=jnp.arange(len(ACTIVE), dtype=jnp.int32), active=jnp.asarray(ACTIVE))


def run_loop(name: str, execution: Execution, factors=(1.0, 1.0), people=None):
    """A Python loop over the rounds; returns the last state and the stacked reports."""
    made, placed = programs(name, execution), placed_federation(execution, people)
    state, reports = made.init(placed), []
    values = everywhere(hparams(name, factors), execution)
    for this in single_rounds(execution):
        state, report = made.round(state, placed, values, this)
        reports.append(report)
    return state, jax.tree.map(lambda *leaves: jnp.stack(leaves), *reports)


def run_scan(name: str, execution: Execution):
    """The same rounds inside one program, from the same start."""
    method = programs(name, execution).method
    alone = reference_execution()
    start = programs(name, alone).init(placed_federation(alone))

    @jax.jit
    def run(state, federation, hparams, rounds):
        def body(state, this):
            return method.round(state, federation, hparams, this)

        return jax.lax.scan(body, state, rounds)

    rest = everywhere((jax.device_get(start), hparams(name), rounds()), execution)
    state, values, whole = rest
    return run(state, placed_federation(execution), values, whole)


def single_rounds(execution: Execution) -> list[Round]:
    """The rounds one by one, on the devices."""
    whole = rounds()
    picked = [jax.tree.map(lambda leaf: leaf[i], whole) for i in range(len(ACTIVE))]  # noqa: B023
    return everywhere(picked, execution)


def placed_federation(execution: Execution, people: Population | None = None) -> Federation:
    """The federation, or one of other clients on the same examples, on the devices."""
    whole = federation()
    return everywhere(whole if people is None else replace(whole, people=people), execution)


def run_distil(execution: Execution, *, labelled: bool = True):
    """DT-KD's students trained once per 'round', half of each user's rows labelled by dice or none.

    Returns:
        The students and their losses [R, K].
    """
    placed, people = placed_federation(execution), federation().people
    shape = (*people.train.indices.shape, 10)
    labels = jnp.asarray(np.random.default_rng(5).normal(size=shape), jnp.float32)
    counts = people.train.counts // 2 if labelled else jnp.zeros_like(people.train.counts)
    soft = everywhere((labels, counts), execution)
    values = DistillationRates(rates(0.1), jnp.float32(2), jnp.float32(0.6))
    students = init_students(model(), placed, jnp.int32(0), execution=execution)
    losses = []
    for this in single_rounds(execution):
        students, loss = distil(
            model(),
            students,
            placed,
            *soft,
            everywhere(values, execution),
            this.index,
            this.active,
            epochs=EPOCHS,
            batch_size=BATCH_SIZE,
            execution=execution,
        )
        losses.append(loss)
    return students, jnp.stack(losses)


def run_reference(name: str, execution: Execution) -> dict[str, np.ndarray]:
    """Every array that three rounds of a method leave, on the host, by its path.

    Args:
        name: one of `NAMES`.
        execution: how; its devices may belong to several processes, each of which gets everything.
    """
    return on_host(run_distil(execution) if name == DT_KD else run_loop(name, execution), execution)


def on_host(tree, execution: Execution) -> dict[str, np.ndarray]:
    """A tree's arrays by path, wherever their parts live.

    `executed_flops` is left out: it says how a form wastes time, so forms differ in it.
    """
    if not all(leaf.is_fully_addressable for leaf in jax.tree.leaves(tree)):
        whole = NamedSharding(mesh_of(execution), PartitionSpec())
        tree = jax.jit(lambda leaves: leaves, out_shardings=whole)(tree)
    paths = jax.tree_util.tree_leaves_with_path(tree)
    named = {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in paths}
    return {path: array for path, array in named.items() if "executed_flops" not in path}


def with_longer_rows(people: Population, extra: int) -> Population:
    """The same clients; rows are longer, and hold strangers' examples past their counts."""
    longer = jnp.pad(people.train.indices, ((0, 0), (0, extra)))
    own = jnp.arange(longer.shape[1])[None, :] < people.train.counts[:, None]
    stranger = jnp.int32(len(federation().table.labels) - 1)
    return replace(people, train=IndexTable(jnp.where(own, longer, stranger), people.train.counts))
