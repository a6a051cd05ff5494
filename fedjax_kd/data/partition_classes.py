"""Pathological label skew: every user holds a fixed number of classes."""

from __future__ import annotations

import numpy as np

from fedjax_kd.data.partition_specs import ClassesPerUser


def classes_partition(
    spec: ClassesPerUser, labels: np.ndarray, n_users: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """Give every user `classes` distinct classes and divide each class among its holders.

    Each class is given out the same number of times (give or take one where users x classes is not
    a multiple of C): users take, in turn, the classes that have been given out least, ties broken
    at random. A holder's share of the class is proportional to a draw from U(low, high), with at
    least one example.

    Args:
      spec: classes, low, high.
      labels: [E] integers; every class 0..C-1 that occurs is handed out.
      n_users: N.
      rng: the only source of randomness.

    Returns:
      N index arrays that divide 0..E-1.

    Raises:
      ValueError: a user is to hold more classes than there are; or users x classes is below C, so
        that some class would belong to nobody and the result would not be a partition; or a class
        has fewer examples than holders.

    Reference: the generator of pFedAFM's released code.
    Deviation: a user's classes are distinct; the released code can give a user a class twice.
    """
    present = np.unique(labels)
    n_classes = len(present)
    if spec.classes > n_classes:
        raise ValueError(
            f"data.partition.classes: {spec.classes} distinct classes for each user, but the data"
            f" have {n_classes}; at most {n_classes} is allowed"
        )
    if n_users * spec.classes < n_classes:
        raise ValueError(
            f"data.partition.classes: {n_users} users x {spec.classes} classes leave"
            f" {n_classes - n_users * spec.classes} of {n_classes} classes with nobody; at least"
            f" {-(-n_classes // n_users)} classes per user, or"
            f" {-(-n_classes // spec.classes)} users, are needed"
        )
    holds = _assign(n_users, spec.classes, n_classes, rng)
    shares: list[list[np.ndarray]] = [[] for _ in range(n_users)]
    for column, class_id in enumerate(present):
        members = rng.permutation(np.flatnonzero(labels == class_id))
        holders = np.flatnonzero(holds[:, column])
        if len(members) < len(holders):
            raise ValueError(
                f"data.partition.classes: class {class_id} has {len(members)} examples for"
                f" {len(holders)} holders; take fewer users or fewer classes per user"
            )
        weights = rng.uniform(spec.low, spec.high, len(holders))
        # One example each, and what is left by weight.
        spare = np.cumsum(weights)[:-1] / weights.sum() * (len(members) - len(holders))
        cuts = spare.astype(np.int64) + np.arange(1, len(holders))
        for user, share in zip(holders, np.split(members, cuts), strict=True):
            shares[user].append(share)
    return [np.concatenate(share) for share in shares]


def _assign(n_users: int, classes: int, n_classes: int, rng: np.random.Generator) -> np.ndarray:
    """Who holds what: bool [N, C] with `classes` per row and balanced columns."""
    given_out = np.zeros(n_classes, np.int64)
    holds = np.zeros((n_users, n_classes), bool)
    for user in range(n_users):
        least = np.lexsort((rng.random(n_classes), given_out))[:classes]
        holds[user, least] = True
        given_out[least] += 1
    return holds
