"""A tiny federation of digits and every method's rounds on it: what the laws compare.

Two study points with three users each, who hold 9, 4 and 6 images (in another order at the second
point). Three rounds: everybody, some, and one in which the second point's users are all away.
Nothing here depends on pytest, so that another process may run the same reference.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from fedjax_kd.clients import Population, every_group, groups_by_turns, population, select
from fedjax_kd.data import IndexTable, UserSplit, example_table, load_source
from fedjax_kd.exchange import clip_and_noise, compose, delta, traced_numbers, without_numbers
from fedjax_kd.methods.contract import Federation, Method, Round
from fedjax_kd.methods.decentralised_fedavg import decentralised_fedavg
from fedjax_kd.methods.decentralised_fml import FmlRates as DecentralisedFmlRates
from fedjax_kd.methods.decentralised_fml import decentralised_fml
from fedjax_kd.methods.def_kt import DefKtRates, def_kt
from fedjax_kd.methods.dfml import DfmlRates, dfml
from fedjax_kd.methods.dfml_cycle import Schedule
from fedjax_kd.methods.ds_fl import DsFlRates, ds_fl
from fedjax_kd.methods.dt_kd import DistillationRates, distil, init_students
from fedjax_kd.methods.fd import FdRates, fd
from fedjax_kd.methods.fedavg import fedavg
from fedjax_kd.methods.feddf import FedDfRates, feddf
from fedjax_kd.methods.fedmd import FedMdRates, fedmd
from fedjax_kd.methods.fedproto import FedProtoRates, fedproto
from fedjax_kd.methods.fedprox import FedProxRates, fedprox
from fedjax_kd.methods.fml import FmlRates, fml
from fedjax_kd.methods.lg_fedavg import lg_fedavg
from fedjax_kd.methods.local import local
from fedjax_kd.methods.on_device_kd import OnDeviceKdRates, on_device_kd
from fedjax_kd.methods.pfedafm import PFedAfmRates, pfedafm
from fedjax_kd.methods.server_ensemble import ServerEnsembleRates, server_ensemble
from fedjax_kd.models import Model, build_model
from fedjax_kd.training import Execution, everywhere, for_points, rates
from fedjax_kd.training.execution import FORMS, mesh_of

SEEDS = (0, 1)
SIZES = ((9, 4, 6), (6, 9, 4))
N_CLIENTS = 6
EPOCHS, BATCH_SIZE = 2, 4
LOCAL: dict[str, Any] = {"epochs": EPOCHS, "batch_size": BATCH_SIZE}
WEAK_AND_STRONG: dict[str, Any] = {"strong": 2, "cohort": 2, "steps": 3, "batch_size": BATCH_SIZE}
ACTIVE = np.array([[1, 1, 1, 1, 1, 1], [1, 0, 1, 0, 1, 1], [1, 1, 0, 0, 0, 0]], bool)
CHANNEL = compose(clip_and_noise(4.0, 0.005), delta())
HPARAMS: dict[str, Any] = {
    "local": lambda: rates(0.1),
    "fedavg": lambda: rates(0.1),
    "fd": lambda: FdRates(rates(0.1), jnp.float32(1), jnp.float32(2)),
    "on_device_kd": lambda: OnDeviceKdRates(rates(0.1, 0.3), rates(0.1, 0.5), **_ramp()),
    "server_ensemble": lambda: ServerEnsembleRates(
        rates(0.1, 0.3), rates(0.1, 0.5), rates(0.05, 0.5), **_ramp()
    ),
    "dfml": lambda: DfmlRates(
        rates(0.1, 0.5, 1e-3), jnp.float32(1), jnp.float32(2), jnp.float32(0.5)
    ),
    "decentralised_fedavg": lambda: rates(0.1),
    "decentralised_fml": lambda: DecentralisedFmlRates(
        rates(0.1), jnp.float32(0.5), jnp.float32(0.7)
    ),
    "def_kt": lambda: DefKtRates(rates(0.1), jnp.float32(1)),
    "pfedafm": lambda: PFedAfmRates(
        rates(0.1, 0.5, 1e-3, 50.0), rates(0.1, 0.5, 1e-3, 50.0), rates(0.1, 0.5, 1e-3)
    ),
    "lg_fedavg": lambda: rates(0.1, 0.5),
    "fedproto": lambda: FedProtoRates(rates(0.1), jnp.float32(1)),
    "fedprox": lambda: FedProxRates(rates(0.1), jnp.float32(0.5)),
    "fml": lambda: FmlRates(rates(0.1), jnp.float32(0.5), jnp.float32(0.7)),
    "fedmd": lambda: FedMdRates(rates(0.1), rates(0.05)),
    "ds_fl": lambda: DsFlRates(rates(0.1), rates(0.05), jnp.float32(0.5)),
    "feddf": lambda: FedDfRates(rates(0.1), rates(0.01)),
    "fd, noise, delta": lambda: FdRates(
        rates(0.1), jnp.float32(1), jnp.float32(2), traced_numbers(CHANNEL)
    ),
}
"""By method; large steps and no zero, so that an error of one form could not hide."""
BUILD: dict[str, Callable[[Execution], Method]] = {
    "local": lambda on: local(models(), execution=on, **LOCAL),
    "fedavg": lambda on: fedavg(model(), execution=on, **LOCAL),
    "fd": lambda on: fd(model(), execution=on, **LOCAL),
    "on_device_kd": lambda on: on_device_kd(*models(), execution=on, **WEAK_AND_STRONG),
    "server_ensemble": lambda on: server_ensemble(
        *models(), execution=on, server_steps=3, raw_bits_per_example=256, **WEAK_AND_STRONG
    ),
    "dfml": lambda on: dfml(
        models(), senders=1, execution=on, schedule=Schedule(first_period=3), **LOCAL
    ),
    "decentralised_fedavg": lambda on: decentralised_fedavg(
        models(), senders=1, execution=on, supervision="weighted_softmax", **LOCAL
    ),
    "decentralised_fml": lambda on: decentralised_fml(
        models(), small_model(), senders=1, execution=on, **LOCAL
    ),
    "def_kt": lambda on: def_kt(models(), senders=1, execution=on, **LOCAL),
    "pfedafm": lambda on: pfedafm(models(), model(), execution=on, **LOCAL),
    "lg_fedavg": lambda on: lg_fedavg(models(), execution=on, **LOCAL),
    "fedproto": lambda on: fedproto(models(), execution=on, **LOCAL),
    "fedprox": lambda on: fedprox(models(), execution=on, **LOCAL),
    "fml": lambda on: fml(models(), small_model(), execution=on, **LOCAL),
    "fedmd": lambda on: fedmd(models(), execution=on, public_epochs=1, per_round=6, **LOCAL),
    "ds_fl": lambda on: ds_fl(models(), execution=on, per_round=6, **LOCAL),
    "feddf": lambda on: feddf(models(), execution=on, server_steps=3, per_round=6, **LOCAL),
    "fd, noise, delta": lambda on: fd(
        models(), execution=on, upload=without_numbers(CHANNEL), **LOCAL
    ),
}
WITH_ROLES = frozenset(
    {
        "on_device_kd",
        "server_ensemble",
        "dfml",
        "decentralised_fedavg",
        "decentralised_fml",
        "def_kt",
    }
)
"""Methods that give work to some of the active clients only."""
SUM_MEETS_CLIENTS = WITH_ROLES | {"fedmd", "ds_fl"}
"""Methods in which what all clients sent reaches them within the round, in the sum's rounding."""
EVERY = tuple(BUILD)
"""The methods of the catalogue, and one with a channel that draws and remembers."""
GROUPED = frozenset(EVERY) - {"fedavg", "fd", "on_device_kd", "server_ensemble"}
"""Methods of two architectures: users 0 and 2 of a point have the first, user 1 the second."""
IN_EVERY_FORM = frozenset({"fedavg", "fd", "on_device_kd", "dfml"})
"""The others are run in `FORM_OF_ALL` only: forms are the engine's, and no method knows of them."""
FORM_OF_ALL = "chunked:2 on 2"

DT_KD = "dt_kd"
ON_SEVERAL_HOSTS = (
    "fedavg",
    "fd",
    "on_device_kd",
    "dfml",
    "def_kt",
    "pfedafm",
    "fml",
    "ds_fl",
    "feddf",
    DT_KD,
)
"""Every way of the catalogue in which clients, servers and public data meet, and DT-KD's."""


def _ramp() -> dict[str, Any]:
    return {
        "temperature": jnp.float32(2),
        "weight": jnp.float32(0.7),
        "ramp_rounds": jnp.float32(2),
    }


class Programs(NamedTuple):
    """A method with its functions compiled."""

    method: Method
    init: Any
    round: Any


@cache
def model() -> Model:
    return build_model("mlp", input_shape=(8, 8, 1), n_classes=10, hidden=(8,))


@cache
def small_model() -> Model:
    return build_model("mlp", input_shape=(8, 8, 1), n_classes=10, hidden=(6,))


@cache
def federation() -> Federation:
    source = load_source("digits")
    splits = []
    for seed, sizes in zip(SEEDS, SIZES, strict=True):
        order = np.random.default_rng(seed).permutation(len(source.train_labels)).astype(np.int32)
        parts = np.split(order[: sum(sizes) + 18], np.cumsum(sizes))
        public = order[sum(sizes) + 18 :][:9]
        small = tuple(np.split(parts[-1][:6], 3))
        common, rest = parts[-1][6:8], parts[-1][8:]
        spare = (rest[:6], rest[6:], rest[:0])
        own = tuple(parts[:-1])
        splits.append(UserSplit(own, small, small, common, common, unlabelled=spare, public=public))
    return Federation(table=example_table(source), people=population(SEEDS, splits))


@cache
def federation_of(name: str) -> Federation:
    """The federation as a method takes it: with groups where it has several architectures."""
    whole = federation()
    return replace(whole, groups=groups_by_turns(whole.people, 2)) if name in GROUPED else whole


@cache
def models() -> tuple[Model, Model]:
    """Two architectures with features of one size."""
    built = [
        build_model("mlp", input_shape=(8, 8, 1), n_classes=10, hidden=hidden)
        for hidden in ((8,), (12, 8))
    ]
    return built[0], built[1]


@cache
def programs(name: str, execution: Execution) -> Programs:
    """One method as compiled functions; asking again gives the same ones."""
    method = BUILD[name](execution)
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
    made, placed = programs(name, execution), placed_federation(execution, people, name)
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
    start = programs(name, alone).init(placed_federation(alone, None, name))

    @jax.jit
    def run(state, federation, hparams, rounds):
        def body(state, this):
            return method.round(state, federation, hparams, this)

        return jax.lax.scan(body, state, rounds)

    rest = everywhere((jax.device_get(start), hparams(name), rounds()), execution)
    state, values, whole = rest
    return run(state, placed_federation(execution, None, name), values, whole)


def single_rounds(execution: Execution) -> list[Round]:
    """The rounds one by one, on the devices."""
    whole = rounds()
    picked = [jax.tree.map(lambda leaf: leaf[i], whole) for i in range(len(ACTIVE))]  # noqa: B023
    return everywhere(picked, execution)


def placed_federation(
    execution: Execution, people: Population | None = None, name: str = ""
) -> Federation:
    """A method's federation, or one of other clients on the same examples, on the devices."""
    whole = federation_of(name)
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
        name: of a method, or `DT_KD`.
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

    def longer(rows: IndexTable) -> IndexTable:
        padded = jnp.pad(rows.indices, ((0, 0), (0, extra)))
        own = jnp.arange(padded.shape[1])[None, :] < rows.counts[:, None]
        stranger = jnp.int32(len(federation().table.labels) - 1)
        return IndexTable(jnp.where(own, padded, stranger), rows.counts)

    return replace(people, train=longer(people.train), unlabelled=longer(people.unlabelled))


def choose(whole: Federation, clients, members) -> tuple[Federation, Any]:
    """Some clients, in the order of `members`, and their rows of a method's state."""
    members = np.asarray(members)
    people = select(whole.people, jnp.asarray(members))
    if not whole.groups:
        return replace(whole, people=people), rows_of(clients, members)
    groups, parts = [], []
    for group, part in zip(whole.groups, clients, strict=True):
        group = np.asarray(group)
        places = np.flatnonzero(np.isin(members, group))
        groups.append(jnp.asarray(places, jnp.int32))
        parts.append(rows_of(part, np.searchsorted(group, members[places])))
    return replace(whole, people=people, groups=tuple(groups)), tuple(parts)


def each_client(whole: Federation, clients) -> list[Any]:
    """What every client keeps, on the host, in the order of the client axis."""
    clients = jax.device_get(clients)
    parts = clients if whole.groups else (clients,)
    found: dict[int, Any] = {}
    for group, part in zip(every_group(whole.groups, whole.people.n_clients), parts, strict=True):
        found |= {int(k): rows_of(part, i) for i, k in enumerate(np.asarray(group))}
    return [found[k] for k in range(whole.people.n_clients)]


def meddled(whole: Federation, clients, idle: np.ndarray):
    """The clients' state with every number of the idle ones one higher, and no flag as it was."""

    def raise_rows(part, group):
        touched = jnp.asarray(np.flatnonzero(np.isin(np.asarray(group), np.flatnonzero(idle))))
        return jax.tree.map(lambda leaf: leaf.at[touched].set(another(leaf[touched])), part)

    def another(old):
        return ~old if old.dtype == bool else old + jnp.ones((), old.dtype)

    if not whole.groups:
        return raise_rows(clients, np.arange(len(idle)))
    return tuple(map(raise_rows, clients, whole.groups))


def of_clients(report, n_clients: int) -> list[np.ndarray]:
    """The arrays [K] of a report, without those that a server has."""
    return [leaf for leaf in jax.tree.leaves(jax.device_get(report)) if leaf.shape[0] == n_clients]


def rows_of(tree, which):
    return jax.tree.map(lambda leaf: leaf[which], tree)
