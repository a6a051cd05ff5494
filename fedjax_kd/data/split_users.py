"""Divide every user's share of the examples, whatever they are and whoever divided them."""

from __future__ import annotations

from typing import Literal

import numpy as np

from fedjax_kd.data.partition_pooled import Draws, divide_pooled
from fedjax_kd.data.source import Source
from fedjax_kd.data.split_share import (
    Share,
    split_examples,
    split_recordings,
    split_recordings_in_time,
)

RecordingSplit = Literal["in_time", "whole"]


def split_users(
    source: Source,
    parts: list[np.ndarray],
    *,
    rng: np.random.Generator,
    test_fraction: float,
    validation_fraction: float,
    max_train: int = 0,
    max_validation: int = 0,
    max_test: int = 0,
    recordings: RecordingSplit = "in_time",
    pooled: Draws | None = None,
) -> list[Share]:
    """Divide every user's share into training, validation and test examples.

    Args:
      source: the examples that `parts` index; its recordings, if any, stay whole (see
        `split_recordings`).
      parts: training indices of each user.
      rng: the only source of randomness.
      test_fraction: of each share.
      validation_fraction: of each share; 0, where shares are not of recordings, gives none.
      max_train: most training examples of a user; 0 is no cap. The other caps likewise.
      max_validation: see `max_train`.
      max_test: see `max_train`.
      recordings: `in_time` cuts every recording in time, with a gap; `whole` gives whole recordings
        away, which asks how a user's model does on recordings of another kind (of the other arm,
        say) than it has seen for a class.
      pooled: the generator of a pooled partition, which then divides the shares too, in its way
        (see `divide_pooled`).

    Raises:
      ValueError: the fractions leave nothing for training, or a user has no example in one of the
        three parts (but for validation, where its fraction is 0).
    """
    if not validation_fraction and source.train_groups is not None:
        raise ValueError(
            f"data.validation_fraction: 0; the examples of {source.name} are cut from recordings,"
            " for which a number above 0 is allowed"
        )
    if test_fraction + validation_fraction >= 1:
        raise ValueError(
            f"data.test_fraction + data.validation_fraction: {test_fraction:g} +"
            f" {validation_fraction:g} leave nothing for training; the sum must be below 1"
        )
    shares = []
    for user, part in enumerate(parts):
        if pooled is not None:
            share = divide_pooled(
                part,
                test_fraction=test_fraction,
                validation_fraction=validation_fraction,
                draws=pooled,
            )
        elif source.train_groups is None:
            share = split_examples(
                part, test_fraction=test_fraction, validation_fraction=validation_fraction, rng=rng
            )
        elif recordings == "in_time":
            share = split_recordings_in_time(
                part,
                source.train_groups,
                overlap=source.group_overlap,
                test_fraction=test_fraction,
                validation_fraction=validation_fraction,
                rng=rng,
            )
        else:
            share = split_recordings(
                part,
                source.train_labels,
                source.train_groups,
                overlap=source.group_overlap,
                test_fraction=test_fraction,
                validation_fraction=validation_fraction,
                rng=rng,
            )
        for name, indices in share._asdict().items():
            if not len(indices) and (validation_fraction or name != "validation"):
                raise ValueError(
                    f"data.partition: user {user} holds {len(part)} examples and has none for"
                    f" {name}; every user needs at least one for train, validation and test. Take"
                    " fewer users, or a partition that gives each more examples (min_examples)"
                )
        train, validation, test = share
        shares.append(
            Share(
                train[: max_train or None],
                validation[: max_validation or None],
                test[: max_test or None],
            )
        )
    return shares
