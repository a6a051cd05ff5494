"""Divide examples among users: the partitioners by the kind of their settings."""

from __future__ import annotations

import numpy as np

from fedjax_kd.data.partition_classes import classes_partition
from fedjax_kd.data.partition_counts import counts_partition
from fedjax_kd.data.partition_dirichlet import dirichlet_partition
from fedjax_kd.data.partition_pooled import generator_of, pooled_partition
from fedjax_kd.data.partition_quantity import iid_partition, quantity_partition
from fedjax_kd.data.partition_specs import (
    ClassesPerUser,
    Dirichlet,
    DirichletCounts,
    DirichletPooled,
    Iid,
    Natural,
    QuantitySkew,
)

PartitionSpec = (
    Iid | Dirichlet | DirichletCounts | DirichletPooled | ClassesPerUser | QuantitySkew | Natural
)

PARTITIONERS = {
    Iid: lambda spec, labels, n_users, rng: iid_partition(labels, n_users, rng),
    Dirichlet: dirichlet_partition,
    DirichletCounts: counts_partition,
    DirichletPooled: lambda spec, labels, n_users, rng: pooled_partition(
        spec, labels, n_users, generator_of(spec, rng)
    ),
    ClassesPerUser: classes_partition,
    QuantitySkew: quantity_partition,
}


def partition(
    spec: PartitionSpec,
    labels: np.ndarray,
    n_users: int,
    rng: np.random.Generator,
    users: np.ndarray | None = None,
    groups: np.ndarray | None = None,
) -> list[np.ndarray]:
    """Divide E examples among N users.

    Args:
      spec: which partitioner, and its parameters.
      labels: [E] integers, at least 0.
      n_users: N.
      rng: the only source of randomness; the natural partition draws nothing.
      users: [E] natural users, for `Natural`.
      groups: [E] recordings that are not to be divided. Unless the partition is natural, whole
        recordings are then given out: the partitioner sees one label a recording, and
        `min_examples` counts recordings.

    Returns:
      N arrays of indices, ascending, disjoint, that together are 0..E-1.

    Raises:
      ValueError: such a partition does not exist, or was not found within the tries; the text names
        the setting and what is feasible.
    """
    if isinstance(spec, Natural):
        return _natural(n_users, users)
    units = np.arange(len(labels)) if groups is None else _group_of(labels, groups)
    first = np.unique(units, return_index=True)[1]
    shares = PARTITIONERS[type(spec)](spec, np.asarray(labels)[first], n_users, rng)
    if groups is None:
        return [np.sort(share) for share in shares]
    return [np.flatnonzero(np.isin(units, share)) for share in shares]


def _natural(n_users: int, users: np.ndarray | None) -> list[np.ndarray]:
    if users is None:
        raise ValueError(
            "data.partition.kind: 'natural' needs a source that names its users, as watch does;"
            " allowed here: iid, dirichlet, dirichlet_counts, dirichlet_pooled, classes_per_user,"
            " quantity_skew"
        )
    named = int(users.max()) + 1
    if n_users != named:
        raise ValueError(
            f"data.users: {n_users}, but the source names {named} users; with data.partition.kind:"
            f" 'natural' only {named} is allowed"
        )
    return [np.flatnonzero(users == user) for user in range(named)]


def _group_of(labels: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Consecutive numbers of the recordings, [E]."""
    _, first, units = np.unique(groups, return_index=True, return_inverse=True)
    if (np.asarray(labels)[first][units] != labels).any():
        raise ValueError("the examples of one recording have several labels")
    return units
