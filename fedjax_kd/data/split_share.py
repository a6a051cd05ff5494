"""Divide one user's share into training, validation and test examples."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Share(NamedTuple):
    """One user's examples, as disjoint index arrays in random order."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def split_examples(
    share: np.ndarray, *, test_fraction: float, validation_fraction: float, rng: np.random.Generator
) -> Share:
    """Shuffle, and cut the test part, then the validation part; the rest is for training.

    Each part is its fraction of the share, rounded, and at least one example where the share has
    three; a validation fraction of 0 gives none.
    """
    order = rng.permutation(share)
    n_test = min(_portion(test_fraction, len(order)), max(len(order) - 2, 0))
    wanted = _portion(validation_fraction, len(order)) if validation_fraction else 0
    n_validation = min(wanted, max(len(order) - n_test - 1, 0))
    test, validation, train = np.split(order, [n_test, n_test + n_validation])
    return Share(train, validation, test)


def split_recordings(
    share: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    *,
    overlap: int,
    test_fraction: float,
    validation_fraction: float,
    rng: np.random.Generator,
) -> Share:
    """Divide a share made of recordings, so that no raw sample is in two parts.

    For each class of the user, whole recordings go to the test part: its fraction of them, rounded,
    at least one. A class with at least three recordings gives whole recordings to the validation
    part too. With two, the validation part is the tail of the one that is left, and the `overlap`
    examples before the tail, which share raw samples with it, are dropped. A class with one
    recording is not in the test part; that recording is divided into a training part and a tail in
    the same way.

    Args:
      share: indices of the user's examples.
      labels: labels of all examples, indexed by `share`.
      groups: the recording of every example; a recording's examples have ascending indices.
      overlap: how many of the following examples an example shares raw samples with.
      test_fraction: of the user's recordings of a class.
      validation_fraction: of the user's recordings of a class, or of its examples for a tail.
      rng: the only source of randomness.
    """
    parts: tuple[list[np.ndarray], ...] = ([], [], [])
    share = np.sort(share)
    for class_id in np.unique(labels[share]):
        members = share[labels[share] == class_id]
        names = rng.permutation(np.unique(groups[members]))
        recordings = [members[groups[members] == name] for name in names]
        divided = _divide_class(recordings, overlap, test_fraction, validation_fraction)
        for part, chosen in zip(parts, divided, strict=True):
            part.extend(chosen)
    empty = share[:0]
    return Share(*(rng.permutation(np.concatenate([empty, *part])) for part in parts))


def split_recordings_in_time(
    share: np.ndarray,
    groups: np.ndarray,
    *,
    overlap: int,
    test_fraction: float,
    validation_fraction: float,
    rng: np.random.Generator,
) -> Share:
    """Cut every recording of a share in time, so that no raw sample is in two parts.

    A recording's first examples are for training, then come the validation and the test part; the
    `overlap` examples before each of the two later parts, which share raw samples with it, are
    dropped. A recording too short to leave a training example is for training as a whole.

    Args:
      share: indices of the user's examples.
      groups: the recording of every example; a recording's examples have ascending indices.
      overlap: how many of the following examples an example shares raw samples with.
      test_fraction: of each recording's examples.
      validation_fraction: of each recording's examples.
      rng: only shuffles the order within the parts.
    """
    parts: tuple[list[np.ndarray], ...] = ([], [], [])
    share = np.sort(share)
    for name in np.unique(groups[share]):
        recording = share[groups[share] == name]
        n_test = _portion(test_fraction, len(recording))
        n_validation = _portion(validation_fraction, len(recording))
        n_train = len(recording) - n_test - n_validation - 2 * overlap
        if n_train < 1:
            parts[0].append(recording)
            continue
        parts[0].append(recording[:n_train])
        parts[1].append(recording[n_train + overlap : len(recording) - n_test - overlap])
        parts[2].append(recording[-n_test:])
    empty = share[:0]
    return Share(*(rng.permutation(np.concatenate([empty, *part])) for part in parts))


def _divide_class(
    recordings: list[np.ndarray], overlap: int, test_fraction: float, validation_fraction: float
) -> tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]:
    count = len(recordings)
    kept = 2 if count >= 3 else 1
    n_test = min(_portion(test_fraction, count), count - kept)
    test, rest = recordings[:n_test], recordings[n_test:]
    if len(rest) >= 2:
        n_validation = min(_portion(validation_fraction, count), len(rest) - 1)
        return rest[n_validation:], rest[:n_validation], test
    only = rest[0]
    wanted = _portion(validation_fraction, sum(len(recording) for recording in recordings))
    n_tail = min(wanted, len(only) - overlap - 1)
    if n_tail < 1:
        return [only], [], test
    return [only[: -n_tail - overlap]], [only[-n_tail:]], test


def _portion(fraction: float, count: int) -> int:
    return max(1, round(fraction * count))
