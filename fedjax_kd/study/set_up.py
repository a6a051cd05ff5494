"""What every study starts from: models as the settings name them, users' shares, devices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

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
from fedjax_kd.study.settings import Data, ModelSpec, System
from fedjax_kd.study.settings_rounds import Links, PublicSource, PublicSplit
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
    data: Data,
    seeds: Sequence[int],
    public: Sequence[np.ndarray] | None = None,
    **options,
) -> list[UserSplit]:
    """Who holds what, one split per seed.

    Args:
        source: the examples.
        data: the settings.
        seeds: of the study.
        public: indices of each seed's public examples, where they are of another data set.
        **options: of `build_split`, beside those that every study has.

    Raises:
        ValueError: for a partition that cannot be had; names the setting.
    """
    splits = [
        build_split(
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
        for seed in seeds
    ]
    if public is None:
        return splits
    return [replace(split, public=rows) for split, rows in zip(splits, public, strict=True)]


def fleets_of(
    system: System | Links,
    n_users: int,
    seeds: Sequence[int],
    weak: np.ndarray | None = None,
) -> Fleet:
    """Devices and links of every seed, arrays stacked [S, ...].

    Args:
        system: the settings.
        n_users: N.
        seeds: of the study.
        weak: bool [N], whose devices are weak; None for nobody's.

    Raises:
        ValueError: if there are weak devices that the profile does not know.
    """
    profile = load_profile(system.profile)
    try:
        fleets = [
            sample_fleet(
                draw_key(part_key(seed, Part.WORLD), 0, Purpose.FLEET),
                profile,
                n_users,
                uplink_hz=system.uplink_hz,
                downlink_hz=system.downlink_hz,
                weak=weak,
            )
            for seed in seeds
        ]
    except ValueError as error:
        raise ValueError(f"system.profile: {error}") from error
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *fleets)


def partition_frame(
    source: Source, seeds: Sequence[int], splits: Sequence[UserSplit]
) -> pd.DataFrame:
    """Frame of partition.parquet: how many examples of each class every user holds."""
    return pd.concat(
        [
            pd.DataFrame(partition_rows(source, split)).assign(seed=seed)
            for seed, split in zip(seeds, splits, strict=True)
        ],
        ignore_index=True,
    )
