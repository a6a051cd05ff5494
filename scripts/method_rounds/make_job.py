"""Makes a job: divides the data set, and takes weights, roles and batch orders from our own method.

The other contestants start from these very weights and do the same things in the same order. They
find roles and orders ready made, while ours are drawn within the time that is measured.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_kd.clients import Population, Purpose, client_keys, draw_roles
from fedjax_kd.data import Dirichlet, Source, host_rng, partition
from fedjax_kd.data.table import channel_statistics
from fedjax_kd.distill.ramp_up import ramp_up
from fedjax_kd.methods.dfml_cycle import Schedule, alpha_at, place_of
from fedjax_kd.training import default_execution, epoch_order

from .job import Job, Terms
from .setting import RAMP_ROUNDS, Rows, setting, start_of, weights_of

LABEL_SKEW = 0.5  # alpha of the Dirichlet partition


def divide(source: Source, terms: Terms, test_examples: int) -> Rows:
    """Draws who holds what, from the parts of a Dirichlet partition.

    Unlabelled rows come from parts of their own, so that their classes are others than those of the
    client's labelled rows.
    """
    rng = host_rng(terms.seed, "bench_methods")
    least = max(terms.examples, terms.soft_examples)
    spec = Dirichlet(alpha=LABEL_SKEW, min_examples=least)
    parts = partition(spec, source.train_labels, terms.clients + terms.strong, rng)

    def some(parts, size):
        if not len(parts):
            return np.zeros((0, size), np.int32)
        drawn = [rng.choice(part, size, replace=False) for part in parts]
        return np.stack(drawn).astype(np.int32)

    test = len(source.train_labels) + np.arange(test_examples)
    labelled = some(parts[: terms.clients], terms.examples)
    soft = some(parts[terms.clients :], terms.soft_examples)
    return Rows(labelled, soft, test.astype(np.int32))


def make_job(terms: Terms, source: Source, rows: Rows, rounds: int) -> Job:
    """One job of so many rounds."""
    case = setting(terms, source, rows, default_execution(1))
    mean, std = channel_statistics(source.train_inputs)
    everything = np.concatenate([source.train_inputs, source.test_inputs])
    labels = source.labels.astype(np.int64)

    def normalised(which: np.ndarray) -> np.ndarray:
        return (everything[which].astype(np.float32) - mean) / std

    arrays = {
        "inputs": normalised(rows.train),
        "labels": labels[rows.train],
        "test_inputs": normalised(rows.test),
        "test_labels": labels[rows.test],
    }
    if terms.strong:
        arrays["soft_inputs"] = normalised(rows.soft)
    plans = [_plan(terms, case.federation.people, terms.first_round + i) for i in range(rounds)]
    arrays |= {name: np.stack([plan[name] for plan in plans]) for name in plans[0]}
    return Job(terms, arrays, weights_of(terms, start_of(case)))


def _plan(terms: Terms, people: Population, index: int) -> dict[str, np.ndarray]:
    """What is drawn for one round, as `Job.arrays` describes it but for the first axis."""
    everybody = jnp.ones(people.n_clients, bool)
    first = client_keys(people, index, Purpose.BATCH_ORDER)
    second = client_keys(people, index, Purpose.DISTIL_ORDER)
    if terms.method == "pfedafm":
        orders = {"personal_order": first, "shared_order": second}
        return {name: _batches(keys, terms.examples, terms) for name, keys in orders.items()}
    chosen, _ = draw_roles(people, index, terms.chosen, everybody)
    told = {"chosen": np.asarray(chosen, np.int64)}
    if terms.method == "dfml":
        schedule = Schedule()
        place = place_of(schedule, index)
        told["alpha"] = np.asarray(alpha_at(schedule, place, place.round, 1.0))
        told["order"] = _batches(first[chosen[:1]], terms.examples, terms)[0]
        return told
    strong = [
        jax.vmap(lambda key, i=i: jax.random.fold_in(key, i))(second[: terms.strong])
        for i in (0, 1)
    ]
    told["weight"] = np.asarray(0.5 * ramp_up(index, RAMP_ROUNDS))
    told["auxiliary_order"] = _batches(first[chosen], terms.examples, terms)
    told["target_order"] = _batches(strong[0], terms.examples, terms)
    told["soft_order"] = _batches(strong[1], terms.soft_examples, terms)
    return told


def _batches(keys: jax.Array, examples: int, terms: Terms) -> np.ndarray:
    """Every client's batches in a phase, int64 [clients, H, B], from its key."""
    epochs = -(-terms.steps * terms.batch_size // examples)
    orders = _orders(keys, examples, epochs, terms.batch_size)
    found = np.asarray(orders, np.int64).reshape(len(keys), -1, terms.batch_size)
    return found[:, : terms.steps]


@partial(jax.jit, static_argnums=(1, 2, 3))
def _orders(keys: jax.Array, examples: int, epochs: int, batch_size: int) -> jax.Array:
    """The order of the examples in every epoch, int32 [clients, epochs, n]."""

    def epoch(key, number):
        own = jax.random.fold_in(key, number)
        return epoch_order(own, jnp.int32(examples), examples, batch_size)

    return jax.vmap(lambda key: jax.vmap(partial(epoch, key))(jnp.arange(epochs)))(keys)
