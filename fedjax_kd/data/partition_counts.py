"""Label skew in which every user holds every class: Dirichlet proportions of each class."""

from __future__ import annotations

import numpy as np

from fedjax_kd.data.partition_specs import DirichletCounts


def counts_partition(
    spec: DirichletCounts, labels: np.ndarray, n_users: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """Give every user one example of each class and divide the rest by p ~ Dirichlet(alpha).

    Class after class, one p over all users is drawn. There is no limit on what a user may hold, so
    users' sizes differ more than with `dirichlet_partition`, and no draw is repeated.

    Args:
      spec: alpha.
      labels: [E] integers.
      n_users: N.
      rng: the only source of randomness.

    Returns:
      N index arrays that divide 0..E-1.

    Raises:
      ValueError: a class has fewer examples than there are users.

    Reference: our reading of a sentence that papers of pFedAFM's authors share ("every client first
    holds all classes, then Dirichlet proportions set its counts"); their generator is not released.
    """
    if n_users < 1:
        raise ValueError(f"data.users: {n_users}; at least 1 is allowed")
    shares: list[list[np.ndarray]] = [[] for _ in range(n_users)]
    for class_id in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == class_id))
        if len(members) < n_users:
            raise ValueError(
                f"data.users: class {class_id} has {len(members)} examples for {n_users} users, and"
                " data.partition.kind: 'dirichlet_counts' gives every user at least one; at most"
                f" {len(members)} users are allowed"
            )
        proportions = rng.dirichlet(np.full(n_users, spec.alpha))
        spare = np.minimum(np.cumsum(proportions)[:-1], 1.0) * (len(members) - n_users)
        cuts = spare.astype(np.int64) + np.arange(1, n_users)
        for user, share in enumerate(np.split(members, cuts)):
            shares[user].append(share)
    return [np.concatenate(share) for share in shares]
