"""Local data without labels: what the strong users of a federation hold beside labelled data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fedjax_kd.data.partition_specs import Natural, UnlabelledShards, UnlabelledShare
from fedjax_kd.data.partitioners import PartitionSpec
from fedjax_kd.data.source import Source

UnlabelledSpec = UnlabelledShards | UnlabelledShare


def check_unlabelled(unlabelled: UnlabelledSpec, spec: PartitionSpec, n_users: int) -> None:
    """Refuses what cannot be had of a partition.

    Raises:
      ValueError: there are more strong users than users, or shards are asked of users that the data
        set names.
    """
    if unlabelled.strong > n_users:
        raise ValueError(
            f"data.unlabelled.strong: {unlabelled.strong} of {n_users} users; at most {n_users} is"
            " allowed"
        )
    if isinstance(unlabelled, UnlabelledShards) and isinstance(spec, Natural):
        raise ValueError(
            "data.unlabelled.kind: 'shards' needs a partition that draws them, and"
            " data.partition.kind: 'natural' has its users' own examples only; take 'share'"
        )


def n_shards(unlabelled: UnlabelledSpec | None, n_users: int) -> int:
    """Into how many parts the partitioner is to cut the training examples."""
    if isinstance(unlabelled, UnlabelledShards):
        return n_users + unlabelled.strong * unlabelled.shards_per_strong
    return n_users


def from_shards(
    unlabelled: UnlabelledShards,
    shards: Sequence[np.ndarray],
    n_users: int,
    rng: np.random.Generator,
) -> list[np.ndarray]:
    """What each user holds without labels, in random order, of the shards after the users' own.

    Returns:
      N index arrays, empty for users that are not strong.
    """
    each = unlabelled.shards_per_strong
    starts = [n_users + user * each for user in range(unlabelled.strong)]
    held = [rng.permutation(np.concatenate(shards[start : start + each])) for start in starts]
    return held + [np.zeros(0, np.int64)] * (n_users - unlabelled.strong)


def from_train(
    unlabelled: UnlabelledShare,
    source: Source,
    train: Sequence[np.ndarray],
    rng: np.random.Generator,
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Divides the strong users' training examples into those that keep their label and the others.

    Where the examples are windows of recordings, the last windows of each recording lose their
    label, and the windows before them that share raw samples with them are dropped; at least
    one window keeps its label, and a recording too short for all this keeps every label.

    Returns:
      Labelled and unlabelled examples, N index arrays each, in random order.

    Raises:
      ValueError: a strong user would have no example in one of the two.
    """
    divided = [(part, part[:0]) for part in train]
    for user in range(unlabelled.strong):
        if source.train_groups is None:
            n_unlabelled = round(unlabelled.share * len(train[user]))
            labelled, rest = np.split(train[user], [len(train[user]) - n_unlabelled])
        else:
            labelled, rest = _cut_recordings(
                train[user], source.train_groups, source.group_overlap, unlabelled.share, rng
            )
        if not len(labelled) or not len(rest):
            raise ValueError(
                f"data.unlabelled.share: {unlabelled.share:g} of the {len(train[user])} training"
                f" examples of user {user} leaves {len(labelled)} with a label and"
                f" {len(rest)} without; both need at least one"
            )
        divided[user] = labelled, rest
    return [labelled for labelled, _ in divided], [rest for _, rest in divided]


def _cut_recordings(
    train: np.ndarray, groups: np.ndarray, overlap: int, share: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    parts: tuple[list[np.ndarray], list[np.ndarray]] = ([train[:0]], [train[:0]])
    train = np.sort(train)
    for name in np.unique(groups[train]):
        recording = train[groups[train] == name]
        n_unlabelled = min(round(share * len(recording)), len(recording) - overlap - 1)
        n_labelled = len(recording) - n_unlabelled - overlap
        if n_unlabelled < 1:
            parts[0].append(recording)
            continue
        parts[0].append(recording[:n_labelled])
        parts[1].append(recording[n_labelled + overlap :])
    return rng.permutation(np.concatenate(parts[0])), rng.permutation(np.concatenate(parts[1]))
