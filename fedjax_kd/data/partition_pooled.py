"""The Dirichlet partition behind the tables of PFLlib and HtFLlib, and how it divides a share.

Published class counts exist for it, so the order of the draws is part of it: class after class, the
examples are shuffled first and the proportions drawn then; after the last class, one permutation a
user divides its share. With NumPy's legacy generator and the reference's seed, all of this is the
reference's, example for example, where the examples stand in the reference's order.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fedjax_kd.data.partition_minimum import check_feasible, not_reached
from fedjax_kd.data.partition_specs import DirichletPooled
from fedjax_kd.data.split_share import Share

Draws = np.random.Generator | np.random.RandomState


def generator_of(spec: DirichletPooled, rng: np.random.Generator) -> Draws:
    """What the partition draws from: `rng`, or a legacy generator of its own if it has a seed."""
    return rng if spec.seed is None else np.random.RandomState(spec.seed)


def pooled_partition(
    spec: DirichletPooled, labels: np.ndarray, n_users: int, draws: Draws
) -> list[np.ndarray]:
    """Divide each class over the users by p ~ Dirichlet(alpha), users that are full taking nothing.

    Class after class: shuffle its examples; draw p over all N users; set p to zero for users that
    hold at least E / N examples; normalise; cut the class at `int(cumulative sum x class size)`.
    What rounding leaves goes to the last user, full or not. All is repeated until the smallest user
    holds `min(min_examples, E / N / 2)`, rounded down, and one example at least.

    Args:
      spec: alpha, min_examples, max_tries.
      labels: [E] integers.
      n_users: N.
      draws: the only source of randomness, see `generator_of`.

    Returns:
      N index arrays that divide 0..E-1, in the reference's order: class after class, shuffled
      within.

    Raises:
      ValueError: no draw gives every user enough.

    Reference: `separate_data` of PFLlib and HtFLlib (Zhang et al. 2023, arXiv:2312.04992), kind
    `dir`; after Yurochkin et al. 2019, arXiv:1905.12022.
    Deviations: the tries are bounded, the reference's are not. A try in which all of a class would
    go to full users (a p that is zero for everybody else, with a tiny alpha) is given up; the
    reference divides by zero there and gives the class to its last user.
    """
    labels = np.asarray(labels)
    check_feasible(len(labels), n_users, 1)
    least = max(1, int(min(spec.min_examples, len(labels) / n_users / 2)))
    best = 0
    for _ in range(spec.max_tries):
        shares = _try(spec.alpha, labels, n_users, draws)
        smallest = min(len(share) for share in shares) if shares else 0
        best = max(best, smallest)
        if shares and smallest >= least:
            return shares
    raise not_reached(replace(spec, min_examples=least), n_users, best)


def divide_pooled(
    share: np.ndarray, *, test_fraction: float, validation_fraction: float, draws: Draws
) -> Share:
    """Divide one user's share as scikit-learn's `train_test_split` does, then cut off validation.

    One permutation of the share: its head is the test part, floor((1 - test_fraction) n) examples
    are left for training. Validation examples, `validation_fraction` of the share, rounded, are the
    head of what is left, at least one unless the fraction is 0; the reference has none.

    Args:
      share: the user's examples in the order of `pooled_partition`.
      test_fraction: of the share.
      validation_fraction: of the share; may be 0.
      draws: the generator that the partition was drawn from; users in ascending order.

    Reference: `split_data` of PFLlib and HtFLlib; scikit-learn's ShuffleSplit.
    """
    order = share[draws.permutation(len(share))]
    n_test = len(order) - int(np.floor((1.0 - test_fraction) * len(order)))
    n_validation = max(1, round(validation_fraction * len(order))) if validation_fraction else 0
    test, validation, train = np.split(order, [n_test, n_test + n_validation])
    return Share(train, validation, test)


def _try(alpha: float, labels: np.ndarray, n_users: int, draws: Draws) -> list[np.ndarray]:
    """One try; no shares if a class could be given to full users only."""
    held: list[list[np.ndarray]] = [[] for _ in range(n_users)]
    sizes = np.zeros(n_users, np.int64)
    for class_id in range(int(labels.max()) + 1):
        members = np.flatnonzero(labels == class_id)
        draws.shuffle(members)
        proportions = draws.dirichlet(np.full(n_users, alpha)) * (sizes < len(labels) / n_users)
        total = proportions.sum()
        if not total > 0:
            return []
        ends = (np.cumsum(proportions / total) * len(members)).astype(np.int64)[:-1]
        for user, piece in enumerate(np.split(members, ends)):
            held[user].append(piece)
            sizes[user] += len(piece)
    return [np.concatenate(pieces) for pieces in held]
