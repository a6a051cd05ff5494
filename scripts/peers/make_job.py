"""Makes a job: divides the data set, and takes first weights and batch orders from our own method.

The other contestants start from these very weights and visit the examples in these very orders.
They find the orders ready made, while ours are drawn within the time that is measured.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict

from fedjax_kd.clients import Purpose, client_keys
from fedjax_kd.data import Dirichlet, Source, host_rng, partition
from fedjax_kd.data.table import channel_statistics
from fedjax_kd.training import default_execution, epoch_order

from .job import Job, Terms
from .ours_setting import models_of, setting, start_of

LABEL_SKEW = 0.5  # alpha of the Dirichlet partition


def divide(
    source: Source, clients: int, examples: int, test_examples: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draws who holds what.

    Args:
        source: the data set.
        clients: K.
        examples: n, of each client.
        test_examples: T.
        seed: of the draw.

    Returns:
        int32 [K, n], drawn from the parts of a Dirichlet partition; int32 [T], of the test split.

    Raises:
        ValueError: if there are fewer examples than asked for.
    """
    if test_examples > len(source.test_labels):
        raise ValueError(
            f"test examples: {test_examples}; at most {len(source.test_labels)} are there"
        )
    rng = host_rng(seed, "bench_peers")
    spec = Dirichlet(alpha=LABEL_SKEW, min_examples=examples)
    parts = partition(spec, source.train_labels, clients, rng)
    rows = np.stack([rng.choice(part, examples, replace=False) for part in parts])
    test_rows = len(source.train_labels) + np.arange(test_examples)
    return rows.astype(np.int32), test_rows.astype(np.int32)


def make_job(
    terms: Terms, source: Source, rows: np.ndarray, test_rows: np.ndarray, rounds: int
) -> Job:
    """One job of so many rounds; arguments as `divide` returns them."""
    case = setting(terms, source, rows, test_rows, default_execution(1))
    n_examples = rows.shape[1]
    people = case.federation.people

    @jax.jit
    def orders(index):
        keys = client_keys(people, index, Purpose.BATCH_ORDER)
        first_epoch = jax.vmap(lambda key: jax.random.fold_in(key, 0))(keys)
        return jax.vmap(
            lambda key: epoch_order(key, jnp.int32(n_examples), n_examples, terms.batch_size)
        )(first_epoch)

    stack = models_of(case.method, start_of(case), case.federation)
    mean, std = channel_statistics(source.train_inputs)
    everything = np.concatenate([source.train_inputs, source.test_inputs])
    labels = source.labels.astype(np.int64)

    def normalised(which: np.ndarray) -> np.ndarray:
        return (everything[which].astype(np.float32) - mean) / std

    return Job(
        terms=terms,
        inputs=normalised(rows),
        labels=labels[rows],
        rows=rows,
        order=np.stack([np.asarray(orders(index), np.int64) for index in range(rounds)]),
        test_inputs=normalised(test_rows),
        test_labels=labels[test_rows],
        test_rows=test_rows,
        weights={
            key: np.asarray(leaf) for key, leaf in flatten_dict(stack["params"], sep="/").items()
        },
    )
