"""What a study in rounds starts from: examples, users with their architectures, devices, links."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from fedjax_kd.clients import Part, branch, groups_by_turns, population
from fedjax_kd.data import (
    AUGMENTATIONS,
    Source,
    UnlabelledShards,
    UnlabelledShare,
    example_table,
    load_source,
)
from fedjax_kd.methods.contract import Federation
from fedjax_kd.models import Model, ModelProfile, profile
from fedjax_kd.study.check_family import EQUAL_FEATURES
from fedjax_kd.study.points import Points, points_of
from fedjax_kd.study.set_up import built, fleets_of, partition_frame, user_splits, with_public
from fedjax_kd.study.settings_family import FamilyStudy
from fedjax_kd.study.settings_on_device_kd import OnDeviceKdStudy
from fedjax_kd.study.settings_pfedafm import PFedAfmStudy
from fedjax_kd.study.settings_rounds import PublicSplit, Shards, Share
from fedjax_kd.study.studies import RoundsStudy, models_of
from fedjax_kd.system import Fleet
from fedjax_kd.training import Execution, everywhere


class Architecture(NamedTuple):
    """One model of the settings.

    Attributes:
        path: of its setting, such as `models.2` or `target`.
        role: `user`, `target`, `auxiliary`, `meme` or `shared`.
        label: short name that tells it from the others of its role.
        model: the architecture.
        costs: its profile.
    """

    path: str
    role: str
    label: str
    model: Model
    costs: ModelProfile


class RoundsSetup(NamedTuple):
    """Everything that is fixed before training starts.

    Attributes:
        source: the data set, on the host.
        federation: S * N clients; its groups are the architectures, where users have their own.
        partition: frame of partition.parquet.
        architectures: those of the settings, in `models_of`'s order.
        user_models: N labels, the model that each user is there to get.
        strong: N flags, whether a user can train the target of on-device KD.
        fleets: devices and links, arrays stacked [S, ...].
        points: settings and labels of the S points.
    """

    source: Source
    federation: Federation
    partition: pd.DataFrame
    architectures: tuple[Architecture, ...]
    user_models: tuple[str, ...]
    strong: tuple[bool, ...]
    fleets: Fleet
    points: Points

    def models(self, role: str) -> tuple[Model, ...]:
        """The models of one role, in the order of the settings."""
        return tuple(each.model for each in self.architectures if each.role == role)

    def model(self, role: str) -> Model:
        """The model of a role that only one has."""
        (model,) = self.models(role)
        return model

    def costs_of(self, model: Model) -> ModelProfile:
        """The profile of a model of the settings."""
        return next(each.costs for each in self.architectures if each.model == model)


def prepare_rounds(
    settings: RoundsStudy,
    execution: Execution,
    data_dir: Path | None = None,
    points: Points | None = None,
) -> RoundsSetup:
    """Reads and divides the data, builds the architectures and draws the devices.

    Nothing is trained or compiled for long here: whatever is wrong with the settings shows now.

    Args:
        settings: the study.
        execution: the devices that share the work; each gets the examples.
        data_dir: where prepared data sets are; None for the default.
        points: what runs side by side; one for each seed of the study if not given.

    Returns:
        The setup. Everybody's randomness is that of one part of the study, so that all contestants
        draw the same participants, and the same batches where they train on the same rows.

    Raises:
        ValueError: naming the setting, for a partition that cannot exist, an architecture that does
            not fit the examples or the others, or a missing data set.
    """
    points = points_of(settings) if points is None else points
    data = settings.data
    source = load_source(data.source, data_dir=data_dir)
    architectures = tuple(
        _architecture(path, spec.label, built(spec, source, path))
        for path, spec in models_of(settings)
    )
    if isinstance(settings, PFedAfmStudy):
        _require_equal_features(
            architectures,
            "models and a shared extractor with as many features as each other, for they are mixed",
        )
    if isinstance(settings, FamilyStudy):
        meeting = [name for name in EQUAL_FEATURES if name in settings.contestants]
        if meeting:
            _require_equal_features(
                [each for each in architectures if each.role == "user"],
                f"models with as many features as each other, for {' and '.join(meeting)}",
            )
    n_strong = settings.strong if isinstance(settings, OnDeviceKdStudy) else 0
    source, others = with_public(source, data.public, points.seeds, data_dir)
    taken = data.public.examples if isinstance(data.public, PublicSplit) else 0
    splits = user_splits(
        source,
        points,
        public=None if taken else others,
        n_public=taken,
        unlabelled=_unlabelled(data.unlabelled, n_strong),
        max_unlabelled=data.max_unlabelled,
    )
    people = branch(population(points.seeds, splits), Part.STUDENTS)
    own = [each.label for each in architectures if each.role == "user"]
    federation = Federation(
        table=example_table(source, data.statistics, AUGMENTATIONS[data.augmentation]),
        people=people,
        groups=groups_by_turns(people, len(own)) if own else (),
    )
    if own:
        user_models = [own[user % len(own)] for user in range(data.users)]
    else:
        target, auxiliary = architectures
        user_models = [target.label if u < n_strong else auxiliary.label for u in range(data.users)]
    # Of on-device KD only: for the other methods all devices are of one kind.
    weak = np.arange(data.users) >= n_strong if n_strong else None
    return RoundsSetup(
        source=source,
        federation=everywhere(federation, execution),
        partition=partition_frame(source, points.labels, splits),
        architectures=architectures,
        user_models=tuple(user_models),
        strong=tuple(user < n_strong for user in range(data.users)),
        fleets=fleets_of(points, weak),
        points=points,
    )


def _unlabelled(chosen: Shards | Share | None, n_strong: int):
    if isinstance(chosen, Shards):
        return UnlabelledShards(strong=n_strong, shards_per_strong=chosen.shards_per_strong)
    if isinstance(chosen, Share):
        return UnlabelledShare(strong=n_strong, share=chosen.share)
    return None


def _architecture(path: str, label: str, model: Model) -> Architecture:
    role = "user" if path.startswith("models.") else path
    return Architecture(path, role, label, model, profile(model))


def _require_equal_features(architectures: Sequence[Architecture], allowed: str) -> None:
    sizes = {each.path: _features(each.model) for each in architectures}
    usual, _ = Counter(sizes.values()).most_common(1)[0]
    for path, size in sizes.items():
        if size != usual:
            raise ValueError(f"{path}: gives {size} features, others {usual}; allowed: {allowed}")


def _features(model: Model) -> int:
    """How many features a model's extractor gives."""
    variables = jax.eval_shape(model.init, jax.random.key(0))
    example = jax.ShapeDtypeStruct((1, *model.input_shape), jnp.float32)
    return jax.eval_shape(lambda v, x: model.features(v, x, False)[0], variables, example).shape[-1]
