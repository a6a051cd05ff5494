"""Partitions that ignore the labels: even sizes (iid), and sizes drawn from a Dirichlet."""

from __future__ import annotations

import numpy as np

from fedjax_kd.data.partition_minimum import check_feasible, not_reached
from fedjax_kd.data.partition_specs import QuantitySkew


def iid_partition(labels: np.ndarray, n_users: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Shuffle the E examples and deal them out; user sizes differ by at most one.

    Raises:
      ValueError: there are fewer examples than users.
    """
    check_feasible(len(labels), n_users, 1)
    return np.array_split(rng.permutation(len(labels)), n_users)


def quantity_partition(
    spec: QuantitySkew, labels: np.ndarray, n_users: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """Shuffle the E examples and cut them at Dirichlet(alpha) proportions.

    The proportions are drawn again, at most `max_tries` times, until every user holds
    `min_examples`.

    Raises:
      ValueError: no draw gives every user `min_examples`.
    """
    n_examples = len(labels)
    check_feasible(n_examples, n_users, spec.min_examples)
    best = 0
    for _ in range(spec.max_tries):
        proportions = rng.dirichlet(np.full(n_users, spec.alpha))
        cuts = (np.cumsum(proportions)[:-1] * n_examples).astype(np.int64)
        smallest = int(np.diff(cuts, prepend=0, append=n_examples).min())
        best = max(best, smallest)
        if smallest >= spec.min_examples:
            return np.split(rng.permutation(n_examples), cuts)
    raise not_reached(spec, n_users, best)
