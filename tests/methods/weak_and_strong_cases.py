"""A tiny federation with weak and strong clients, and the algorithm again in NumPy.

Two study points with three users each; users 0 and 1 are strong. User 2 of either point holds
unlabelled rows too, which nobody may touch. The networks by hand have one hidden layer, gradients
by the chain rule, and Python lists of clients.
"""

from dataclasses import replace
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_kd.clients import Purpose, client_key, population
from fedjax_kd.data import UserSplit, example_table, gather, load_source
from fedjax_kd.methods.contract import Federation, Round
from fedjax_kd.methods.on_device_kd import OnDeviceKdRates, on_device_kd
from fedjax_kd.models import build_model
from fedjax_kd.training import Execution, Rates, epoch_order, everywhere, rates

SEEDS, STRONG, C = (0, 1), 2, 10
LABELLED = ((9, 4, 6), (6, 9, 4))
UNLABELLED = ((7, 5, 3), (3, 6, 2))
N_CLIENTS = 6
EVERYBODY = np.ones(N_CLIENTS, bool)


@cache
def models():
    options = {"input_shape": (8, 8, 1), "n_classes": C}
    return build_model("mlp", hidden=(6,), **options), build_model("mlp", hidden=(9,), **options)


def solo() -> Execution:
    return Execution("sequential", tuple(jax.local_devices()[:1]))


def federation_of(labelled, unlabelled, seeds=SEEDS) -> Federation:
    source = load_source("digits")
    splits = []
    for seed, sizes, soft_sizes in zip(seeds, labelled, unlabelled, strict=True):
        order = np.random.default_rng(seed).permutation(len(source.train_labels)).astype(np.int32)
        parts = np.split(order, np.cumsum([*sizes, *soft_sizes]))
        n, rest = len(sizes), parts[-1]
        small = tuple(rest[:n].reshape(n, 1))
        splits.append(
            UserSplit(
                tuple(parts[:n]), small, small, rest[:5], rest[:5], unlabelled=tuple(parts[n:-1])
            )
        )
    return Federation(table=example_table(source), people=population(seeds, splits))


@cache
def federation() -> Federation:
    return federation_of(LABELLED, UNLABELLED)


def hparams(momentum=0.5, weight_decay=0.02, weight=0.8, ramp_rounds=4.0, **changes):
    values = OnDeviceKdRates(
        auxiliary=rates(0.1, momentum, weight_decay),
        target=rates(0.15, momentum, weight_decay),
        temperature=jnp.float32(3),
        weight=jnp.float32(weight),
        ramp_rounds=jnp.float32(ramp_rounds),
    )
    return replace(values, **changes)


@cache
def compiled(execution, build=on_device_kd, **options):
    given: dict[str, Any] = {"strong": STRONG, "cohort": 2, "steps": 3, "batch_size": 4}
    method = build(*models(), execution=execution, **(given | options))
    return method, jax.jit(method.init), jax.jit(method.round)


def run(actives, values=None, of=None, execution=None, first=0, state=None, **options):
    """States after every round (the first is the start) and the reports, on the host."""
    execution = execution or solo()
    placed = everywhere(of or federation(), execution)
    values = everywhere(hparams() if values is None else values, execution)
    _, init, step = compiled(execution, **options)
    state = init(placed) if state is None else everywhere(state, execution)
    states, reports = [jax.device_get(state)], []
    for index, active in enumerate(actives, first):
        this = everywhere(Round(jnp.int32(index), jnp.asarray(active, bool)), execution)
        state, report = step(state, placed, values, this)
        states.append(jax.device_get(state))
        reports.append(jax.device_get(report))
    return states, reports


class Net(NamedTuple):
    """A network with one hidden layer, float64."""

    w: np.ndarray
    b: np.ndarray
    v: np.ndarray
    c: np.ndarray


def net(variables, point: int) -> Net:
    params = jax.tree.map(lambda leaf: np.asarray(leaf[point], np.float64), variables["params"])
    hidden, head = params["extractor"]["Dense_0"], params["head"]
    return Net(hidden["kernel"], hidden["bias"], head["kernel"], head["bias"])


def softmax(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def logits(n: Net, x):
    return np.maximum(x @ n.w + n.b, 0) @ n.v + n.c


def backward(n: Net, x, dz) -> Net:
    a = x @ n.w + n.b
    dh = (dz @ n.v.T) * (a > 0)
    return Net(x.T @ dh, dh.sum(0), np.maximum(a, 0).T @ dz, dz.sum(0))


def plus(a: Net, b: Net, factor: Any) -> Net:
    return Net(*(x + factor * y for x, y in zip(a, b, strict=True)))


class ByHand:
    """On-device KD in Python loops; `fresh_velocity` plants the error of a second optimiser."""

    def __init__(self, values, whole=None, *, cohort=2, steps=3, batch_size=4, **options):
        self.whole = whole or federation()
        self.cohort, self.steps, self.batch_size = cohort, steps, batch_size
        self.options = {"kd_only": False, "kd_weight": "ramp", "weighting": "uniform"}
        self.options |= {"fresh_velocity": False, "teacher": "aggregated"} | options
        self.values: Any = jax.tree.map(float, values)
        people = self.whole.people
        self.point, self.user = np.asarray(people.point), np.asarray(people.user)

    def rows(self, table, k):
        return np.asarray(table.indices[k, : int(table.counts[k])])

    def batches(self, key, table, k):
        return self.batches_of(key, self.rows(table, k), table.indices.shape[1], self.steps)

    def batches_of(self, key, rows, capacity, steps):
        """The examples of each step, as `local_steps` says that it visits them."""
        if len(rows) == 0:
            return []
        found, epoch = [], 0
        while len(found) < steps:
            own = jax.random.fold_in(key, epoch)
            order = epoch_order(own, jnp.int32(len(rows)), capacity, self.batch_size)
            order, epoch = np.asarray(order)[: len(rows)], epoch + 1
            cuts = range(0, len(rows), self.batch_size)
            found += [rows[order[start : start + self.batch_size]] for start in cuts]
        return [self.examples(chosen) for chosen in found[:steps]]

    def examples(self, chosen):
        inputs, labels = gather(self.whole.table, jnp.asarray(chosen))
        return np.asarray(inputs, np.float64).reshape(len(chosen), -1), np.asarray(labels)

    def descend(self, n, velocity, gradient, values: Rates):
        gradient = plus(gradient, n, values.weight_decay or 0.0)
        velocity = Net(*((values.momentum or 0.0) * v for v in velocity))
        velocity = plus(velocity, gradient, 1.0)
        return plus(n, velocity, -values.learning_rate), velocity

    def by_labels(self, n, velocity, batches, values):
        for x, y in batches:
            dz = (softmax(logits(n, x)) - np.eye(C)[y]) / len(y)
            n, velocity = self.descend(n, velocity, backward(n, x, dz), values)
        return n, velocity

    def by_teacher(self, n, velocity, teach, batches, values, omega):
        t = self.values.temperature
        for x, _ in batches:
            difference = softmax(logits(n, x) / t) - softmax(teach(x) / t)
            dz = omega * t * difference / len(x)  # omega T^2, times 1 / T of the inner softmax
            n, velocity = self.descend(n, velocity, backward(n, x, dz), values)
        return n, velocity

    def key(self, k, index, purpose):
        root = self.whole.people.roots[self.point[k]]
        return client_key(root, index, purpose, int(self.user[k]))

    def drawn(self, point, index, active):
        eligible = [k for k in np.flatnonzero(active) if self.point[k] == point]
        if self.cohort is None:
            return eligible
        draws = {k: int(jax.random.bits(self.key(k, index, Purpose.ROLE))) for k in eligible}
        return sorted(eligible, key=draws.__getitem__)[: self.cohort]

    def omega(self, index):
        length = self.values.ramp_rounds
        if self.options["kd_weight"] == "constant" or index >= length:
            return self.values.weight
        return self.values.weight * np.exp(-5 * (1 - index / length) ** 2)

    def mean(self, old, trained, sizes):
        """Of those with at least one example."""
        plain = self.options["weighting"] == "uniform"
        weights = [float(n > 0) if plain else float(n) for n in sizes]
        if not sum(weights):
            return old
        new = old
        for one, weight in zip(trained, weights, strict=True):
            new = plus(new, plus(one, old, -1.0), weight / sum(weights))
        return new

    def auxiliary_step(self, point, small, index, active):
        """The new auxiliary model and the clients' own ones."""
        people, trained, sizes = self.whole.people, [], []
        for k in self.drawn(point, index, active):
            key = self.key(k, index, Purpose.BATCH_ORDER)
            start = Net(*(np.zeros_like(leaf) for leaf in small))
            batches = self.batches(key, people.train, k)
            own, _ = self.by_labels(small, start, batches, self.values.auxiliary)
            trained.append(own)
            sizes.append(int(people.train.counts[k]))
        return self.mean(small, trained, sizes), trained

    def target_step(self, point, large, teacher, index, active):
        people, trained, sizes = self.whole.people, [], []
        values, kd_only = self.values.target, self.options["kd_only"]
        for k in np.flatnonzero(active & (self.point == point) & (self.user < STRONG)):
            key = self.key(k, index, Purpose.DISTIL_ORDER)
            still = Net(*(np.zeros_like(leaf) for leaf in large))
            own, velocity, size = large, still, 0
            if not kd_only:
                batches = self.batches(jax.random.fold_in(key, 0), people.train, k)
                own, velocity = self.by_labels(own, velocity, batches, values)
                size += int(people.train.counts[k])
            if teacher is not None:
                velocity = still if self.options["fresh_velocity"] else velocity
                batches = self.batches(jax.random.fold_in(key, 1), people.unlabelled, k)
                teach = partial(logits, teacher)
                own, _ = self.by_teacher(own, velocity, teach, batches, values, self.omega(index))
                size += int(people.unlabelled.counts[k])
            trained.append(own)
            sizes.append(size)
        return self.mean(large, trained, sizes)

    def round(self, point, small, large, index, active):
        new_small, _ = self.auxiliary_step(point, small, index, active)
        teacher = new_small if self.options["teacher"] == "aggregated" else small
        return new_small, self.target_step(point, large, teacher, index, active)
