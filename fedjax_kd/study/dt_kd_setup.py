"""What a DT-KD study starts from: examples, users, architectures, devices and links."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from fedjax_kd.clients import Part, Purpose, draw_key, part_key, population
from fedjax_kd.data import (
    Source,
    build_split,
    example_table,
    host_rng,
    load_source,
    partition_rows,
)
from fedjax_kd.methods.contract import Federation
from fedjax_kd.models import Model, ModelProfile, build_model, profile
from fedjax_kd.study.settings import DtKdStudy, ModelSpec
from fedjax_kd.system import Fleet, load_profile, sample_fleet, synchronised_count
from fedjax_kd.training import Execution, everywhere


class Setup(NamedTuple):
    """Everything that is fixed before training starts.

    Attributes:
        source: the data set, on the host.
        federation: S * N clients.
        synchronised: int32 [K], training examples at the twins.
        partition: frame of partition.parquet.
        teacher: the teacher's architecture.
        students: M architectures.
        teacher_profile: its costs.
        profiles: the students' costs.
        fleets: devices and links, arrays stacked [S, ...].
    """

    source: Source
    federation: Federation
    synchronised: jax.Array
    partition: pd.DataFrame
    teacher: Model
    students: tuple[Model, ...]
    teacher_profile: ModelProfile
    profiles: tuple[ModelProfile, ...]
    fleets: Fleet


def prepare(settings: DtKdStudy, execution: Execution, data_dir: Path | None = None) -> Setup:
    """Reads and divides the data, builds the architectures and draws the devices.

    Nothing is trained or compiled for long here: whatever is wrong with the settings shows now.

    Args:
        settings: the study.
        execution: the devices that share the work; each gets the examples.
        data_dir: where prepared data sets are; None for the default.

    Returns:
        The setup.

    Raises:
        ValueError: naming the setting, for a partition that cannot exist, an architecture that does
            not fit the examples, or a missing data set.
    """
    data = settings.data
    source = load_source(data.source, data_dir=data_dir)
    shape = source.train_inputs.shape[1:]
    teacher = _build(settings.teacher.model, shape, source.n_classes, "teacher.model")
    students = tuple(
        _build(spec, shape, source.n_classes, f"students.{index}")
        for index, spec in enumerate(settings.students)
    )
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
        )
        for seed in settings.seeds
    ]
    people = population(settings.seeds, splits)
    synchronised = synchronised_count(np.asarray(people.train.counts), settings.twin.synchronised)
    _require_teachable(settings, synchronised)
    system = load_profile(settings.system.profile)
    fleets = [
        sample_fleet(
            draw_key(part_key(seed, Part.WORLD), 0, Purpose.FLEET),
            system,
            data.users,
            uplink_hz=settings.system.uplink_hz,
            downlink_hz=settings.system.downlink_hz,
        )
        for seed in settings.seeds
    ]
    return Setup(
        source=source,
        federation=everywhere(Federation(table=example_table(source), people=people), execution),
        synchronised=jnp.asarray(synchronised),
        partition=_partition_frame(source, settings.seeds, splits),
        teacher=teacher,
        students=students,
        teacher_profile=profile(teacher),
        profiles=tuple(profile(model) for model in students),
        fleets=jax.tree.map(lambda *leaves: jnp.stack(leaves), *fleets),
    )


def _require_teachable(settings: DtKdStudy, synchronised: np.ndarray) -> None:
    for seed, held in zip(
        settings.seeds, synchronised.reshape(len(settings.seeds), -1), strict=True
    ):
        if not held.any():
            raise ValueError(
                f"twin.synchronised: found {settings.twin.synchronised:g}, which rounds to no "
                f"example of any user (seed {seed}), so that there is nothing to train a teacher "
                "on; allowed: a share that gives at least one user one example"
            )


def _build(spec: ModelSpec, shape: Sequence[int], n_classes: int, where: str) -> Model:
    try:
        return build_model(
            spec.name,
            input_shape=tuple(shape),
            n_classes=n_classes,
            width=spec.width,
            hidden=spec.hidden,
            norm=spec.norm,
        )
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _partition_frame(source: Source, seeds: Sequence[int], splits) -> pd.DataFrame:
    return pd.concat(
        [
            pd.DataFrame(partition_rows(source, split)).assign(seed=seed)
            for seed, split in zip(seeds, splits, strict=True)
        ],
        ignore_index=True,
    )
