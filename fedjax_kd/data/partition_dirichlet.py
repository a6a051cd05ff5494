"""Label skew by Dirichlet proportions: the LDA partitioner of Hsu et al. 2019 as FedML has it."""

from __future__ import annotations

import numpy as np

from fedjax_kd.data.partition_minimum import check_feasible, not_reached
from fedjax_kd.data.partition_specs import Dirichlet


def dirichlet_partition(
    spec: Dirichlet, labels: np.ndarray, n_users: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """Divide each class over the users by p ~ Dirichlet(alpha), users that are full taking nothing.

    Class after class, the proportions of users that hold at least E / N examples are set to zero
    and the rest is normalised; the shuffled examples of the class are cut at the cumulative sum.
    The whole draw is repeated, at most `max_tries` times, until every user holds `min_examples`.

    The proportions of the open users, normalised, are themselves Dirichlet(alpha) over these users,
    so they are drawn directly. This is the same distribution and cannot divide by zero, which
    happens with a small alpha when all the mass falls on full users.

    Args:
      spec: alpha, min_examples, max_tries.
      labels: [E] integers.
      n_users: N.
      rng: the only source of randomness.

    Returns:
      N index arrays that divide 0..E-1.

    Raises:
      ValueError: no draw gives every user `min_examples`.

    Reference: Hsu, Qi and Brown 2019, arXiv:1909.06335; FedML's non_iid_partition.
    Deviation: the retries are bounded; FedML's never end if the minimum cannot be reached.
    """
    check_feasible(len(labels), n_users, spec.min_examples)
    class_sizes = np.bincount(labels)
    best = 0
    for _ in range(spec.max_tries):
        cuts, sizes = _draw(class_sizes, n_users, spec.alpha, rng)
        best = max(best, int(sizes.min()))
        if sizes.min() >= spec.min_examples:
            return _deal(labels, cuts, n_users, rng)
    raise not_reached(spec, n_users, best)


def _draw(
    class_sizes: np.ndarray, n_users: int, alpha: float, rng: np.random.Generator
) -> tuple[list[np.ndarray], np.ndarray]:
    """One try: where each class is cut (N - 1 places each), and the users' sizes [N]."""
    fair_share = class_sizes.sum() / n_users
    sizes = np.zeros(n_users, np.int64)
    cuts = []
    for class_size in class_sizes:
        is_open = sizes < fair_share
        if not is_open.any():  # only empty classes are left
            is_open[:] = True
        proportions = np.zeros(n_users)
        proportions[is_open] = rng.dirichlet(np.full(is_open.sum(), alpha))
        # Rounding may leave the sum just below one; the remainder must go to an open user.
        cumulative = np.cumsum(proportions)
        cumulative[np.flatnonzero(is_open)[-1] :] = 1.0
        ends = (np.minimum(cumulative, 1.0) * class_size).astype(np.int64)
        cuts.append(ends[:-1])
        sizes += np.diff(ends, prepend=0)
    return cuts, sizes


def _deal(
    labels: np.ndarray, cuts: list[np.ndarray], n_users: int, rng: np.random.Generator
) -> list[np.ndarray]:
    shares: list[list[np.ndarray]] = [[] for _ in range(n_users)]
    for class_id, places in enumerate(cuts):
        members = rng.permutation(np.flatnonzero(labels == class_id))
        for user, share in enumerate(np.split(members, places)):
            shares[user].append(share)
    return [np.concatenate(share) for share in shares]
