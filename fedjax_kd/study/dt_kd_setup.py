"""What a DT-KD study starts from: examples, users, architectures, devices and links."""

from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from fedjax_kd.clients import population
from fedjax_kd.data import Source, example_table, load_source
from fedjax_kd.methods.contract import Federation
from fedjax_kd.models import Model, ModelProfile, profile
from fedjax_kd.study.points import PointRefused, Points, points_of
from fedjax_kd.study.set_up import built, fleets_of, partition_frame, user_splits
from fedjax_kd.study.settings import DtKdStudy
from fedjax_kd.system import Fleet, synchronised_count
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
        points: settings and labels of the S points.
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
    points: Points


def prepare(
    settings: DtKdStudy,
    execution: Execution,
    data_dir: Path | None = None,
    points: Points | None = None,
) -> Setup:
    """Reads and divides the data, builds the architectures and draws the devices.

    Nothing is trained or compiled for long here: whatever is wrong with the settings shows now.

    Args:
        settings: the study.
        execution: the devices that share the work; each gets the examples.
        data_dir: where prepared data sets are; None for the default.
        points: what runs side by side; one for each seed of the study if not given.

    Returns:
        The setup.

    Raises:
        ValueError: naming the setting, for a partition that cannot exist, an architecture that does
            not fit the examples, or a missing data set.
    """
    points = points_of(settings) if points is None else points
    data = settings.data
    source = load_source(data.source, data_dir=data_dir)
    teacher = built(settings.teacher.model, source, "teacher.model")
    students = tuple(
        built(spec, source, f"students.{index}") for index, spec in enumerate(settings.students)
    )
    splits = user_splits(source, points)
    people = population(points.seeds, splits)
    counts = np.asarray(people.train.counts).reshape(len(points.seeds), -1)
    synchronised = np.concatenate(
        [
            synchronised_count(held, point.twin.synchronised)
            for held, point in zip(counts, points.settings, strict=True)
        ]
    )
    _require_teachable(points, synchronised)
    return Setup(
        source=source,
        federation=everywhere(Federation(table=example_table(source), people=people), execution),
        synchronised=jnp.asarray(synchronised),
        partition=partition_frame(source, points.labels, splits),
        teacher=teacher,
        students=students,
        teacher_profile=profile(teacher),
        profiles=tuple(profile(model) for model in students),
        fleets=fleets_of(points),
        points=points,
    )


def _require_teachable(points: Points, synchronised: np.ndarray) -> None:
    held = synchronised.reshape(len(points.seeds), -1)
    for place, (point, seed) in enumerate(zip(points.settings, points.seeds, strict=True)):
        if not held[place].any():
            raise PointRefused(
                place,
                f"twin.synchronised: found {point.twin.synchronised:g}, which rounds to no "
                f"example of any user (seed {seed}), so that there is nothing to train a teacher "
                "on; allowed: a share that gives at least one user one example",
            )
