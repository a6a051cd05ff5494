"""Public examples, for methods that exchange what models say about examples that all may see."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fedjax_kd.data.seeding import host_rng
from fedjax_kd.data.source import Source, with_extra


def take_public(
    source: Source, kept: np.ndarray, n_examples: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Take public examples out of those that are to be divided among users.

    Args:
      source: the examples.
      kept: indices of training examples, ascending.
      n_examples: P; 0 takes none and draws nothing.
      rng: the only source of randomness.

    Returns:
      What is left, ascending, and the P public examples, in random order.

    Raises:
      ValueError: there are not as many, or the examples overlap in raw samples.
    """
    if not n_examples:
        return kept, kept[:0]
    if source.train_groups is not None:
        raise ValueError(
            "data.public.kind: 'split' takes out single examples, but those of"
            f" {source.name} are cut from recordings and share raw samples; allowed here: null"
        )
    if n_examples >= len(kept):
        raise ValueError(
            f"data.public.examples: {n_examples} of {len(kept)} training examples leave nothing for"
            f" the users; at most {len(kept) - 1} are allowed"
        )
    order = rng.permutation(kept)
    return np.sort(order[n_examples:]), order[:n_examples]


def public_of_source(
    source: Source, other: Source, n_examples: int, seeds: Sequence[int]
) -> tuple[Source, list[np.ndarray]]:
    """Append training examples of another data set, drawn anew for every seed.

    Their labels do not count: they stand as 0 in the table. They are normalised by the statistics
    of the private data set. The table holds what at least one seed drew, once.

    Args:
      source: the private examples.
      other: where public examples come from.
      n_examples: P.
      seeds: of the study.

    Returns:
      The source with the examples behind its own, and for each seed the P indices of its public
      examples, int32, in random order.

    Raises:
      ValueError: the two are the same data set, their examples differ in shape or type, or there
        are fewer than P.
    """
    if other.name == source.name:
        raise ValueError(
            f"data.public.source: {other.name!r} is the private data set; allowed: another one, or"
            " data.public.kind: 'split', which takes examples out of it"
        )
    ours, theirs = source.train_inputs, other.train_inputs
    if theirs.shape[1:] != ours.shape[1:] or theirs.dtype != ours.dtype:
        raise ValueError(
            f"data.public.source: {other.name!r} has examples {theirs.dtype}"
            f"{list(theirs.shape[1:])}; allowed: those of {source.name},"
            f" {ours.dtype}{list(ours.shape[1:])}"
        )
    if not 1 <= n_examples <= len(theirs):
        raise ValueError(
            f"data.public.examples: {n_examples}; {other.name} has {len(theirs)} training examples,"
            f" allowed: 1 to {len(theirs)}"
        )
    drawn = [host_rng(seed, "public").permutation(len(theirs))[:n_examples] for seed in seeds]
    appended = np.unique(np.concatenate(drawn))
    first = len(source.labels)
    rows = [(first + np.searchsorted(appended, each)).astype(np.int32) for each in drawn]
    return with_extra(source, theirs[appended]), rows
