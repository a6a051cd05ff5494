"""What every study starts from: models as the settings name them, users' shares, devices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from fedjax_kd.clients import Part, Purpose, draw_key, part_key
from fedjax_kd.data import (
    DataSetMissing,
    Source,
    UserSplit,
    build_split,
    host_rng,
    load_source,
    partition_rows,
    public_of_source,
)
from fedjax_kd.models import Model, build_model
from fedjax_kd.study.points import Labels, PointRefused, Points
from fedjax_kd.study.settings import Data, ModelSpec
from fedjax_kd.study.settings_rounds import PublicSource, PublicSplit
from fedjax_kd.system import Fleet, load_profile, sample_fleet


def built(spec: ModelSpec, source: Source, where: str) -> Model:
    """The model of a spec for the examples of a source.

    Args:
        spec: what the settings say.
        source: the examples.
        where: path of the setting, which opens the message of an error.

    Raises:
        ValueError: if the architecture does not exist or does not fit the examples.
    """
    try:
        return build_model(
            spec.name,
            input_shape=tuple(source.train_inputs.shape[1:]),
            n_classes=source.n_classes,
            width=spec.width,
            hidden=spec.hidden,
            norm=spec.norm,
        )
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def with_public(
    source: Source,
    chosen: PublicSplit | PublicSource | None,
    seeds: Sequence[int],
    data_dir: Path | None = None,
) -> tuple[Source, list[np.ndarray]]:
    """The source with public examples of another data set behind its own.

    Args:
        source: the private examples.
        chosen: what the settings say.
        seeds: of the study.
        data_dir: where prepared data sets are; None for the default.

    Returns:
        The source, and the indices of each seed's public examples; the source as it is and empty
        rows where no other data set is named.

    Raises:
        ValueError: naming the setting, if the other data set is missing or does not fit.
    """
    if not isinstance(chosen, PublicSource):
        return source, [np.zeros(0, np.int32)] * len(seeds)
    try:
        other = load_source(chosen.source, data_dir=data_dir)
    except ValueError as error:
        kind = DataSetMissing if isinstance(error, DataSetMissing) else ValueError
        raise kind(str(error).replace("data.source:", "data.public.source:")) from error
    return public_of_source(source, other, chosen.examples, seeds)


def user_splits(
    source: Source,
    points: Points,
    public: Sequence[np.ndarray] | None = None,
    **options,
) -> list[UserSplit]:
    """Who holds what, one split per point; points with the same data and seed share theirs.

    Args:
        source: the examples.
        points: of the study.
        public: indices of each point's public examples, where they are of another data set.
        **options: of `build_split`, beside those that every study has.

    Raises:
        PointRefused: for a partition that cannot be had; names the setting.
    """
    drawn: list[tuple[Data, int, UserSplit]] = []
    splits = []
    for place, (point, seed) in enumerate(zip(points.settings, points.seeds, strict=True)):
        split = next((was for data, s, was in drawn if (data, s) == (point.data, seed)), None)
        if split is None:
            try:
                split = _split(source, point.data, seed, options)
            except ValueError as error:
                raise PointRefused(place, str(error)) from error
            drawn.append((point.data, seed, split))
        splits.append(split)
    if public is None:
        return splits
    return [replace(split, public=rows) for split, rows in zip(splits, public, strict=True)]


def _split(source: Source, data: Data, seed: int, options: Mapping[str, Any]) -> UserSplit:
    return build_split(
        source,
        data.partition,
        data.users,
        rng=host_rng(seed, "split"),
        test_fraction=data.test_fraction,
        validation_fraction=data.validation_fraction,
        max_train=data.max_train,
        max_validation=data.max_validation,
        max_test=data.max_test,
        common_fraction=data.common_fraction,
        common_validation=data.common_validation,
        common_test=data.common_test,
        recordings=data.recordings,
        **options,
    )


def fleets_of(points: Points, weak: np.ndarray | None = None) -> Fleet:
    """Devices and links of every point, arrays stacked [S, ...].

    Args:
        points: of the study; the device profile is that of the first.
        weak: bool [N], whose devices are weak; None for nobody's.

    Raises:
        ValueError: if there are weak devices that the profile does not know.
    """
    profile = load_profile(points.settings[0].system.profile)
    try:
        fleets = [
            sample_fleet(
                draw_key(part_key(seed, Part.WORLD), 0, Purpose.FLEET),
                profile,
                point.data.users,
                uplink_hz=point.system.uplink_hz,
                downlink_hz=point.system.downlink_hz,
                weak=weak,
            )
            for point, seed in zip(points.settings, points.seeds, strict=True)
        ]
    except ValueError as error:
        raise ValueError(f"system.profile: {error}") from error
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *fleets)


def partition_frame(source: Source, labels: Labels, splits: Sequence[UserSplit]) -> pd.DataFrame:
    """Frame of partition.parquet: how many examples of each class every user holds."""
    frames = [
        pd.DataFrame(partition_rows(source, split)).assign(point=point, seed=seed)
        for point, seed, split in zip(labels.point, labels.seed, splits, strict=True)
    ]
    return pd.concat(frames, ignore_index=True)
