"""The points of a study: settings that one program runs side by side, and how rows name them.

Points of one program share everything static. What differs is numbers that programs take as
arguments, seeds, and who holds what. A study that is run by itself has one point per seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fedjax_kd.study.studies import Study


class PointRefused(ValueError):
    """One point's settings cannot be met, whatever the others say.

    Attributes:
        place: of the point among those that were to run together.
    """

    def __init__(self, place: int, message: str):
        super().__init__(message)
        self.place = place


class Labels(NamedTuple):
    """What tells the points apart in tables.

    Attributes:
        point: S numbers of combinations of settings; all 0 in a study by itself.
        seed: S seeds.
    """

    point: tuple[int, ...]
    seed: tuple[int, ...]

    @classmethod
    def of_seeds(cls, seeds: Sequence[int]) -> Labels:
        """Labels of a study by itself."""
        return cls((0,) * len(seeds), tuple(seeds))

    def columns(self, rows: int) -> dict[str, np.ndarray]:
        """Columns `point` and `seed` of `rows` rows for every point in turn."""
        return {
            "point": np.repeat(np.asarray(self.point, np.int64), rows),
            "seed": np.repeat(np.asarray(self.seed, np.int64), rows),
        }


class Points(NamedTuple):
    """S points and what they are called.

    Attributes:
        settings: of each, with a single seed.
        labels: how rows of tables name them.
    """

    settings: tuple[Any, ...]
    labels: Labels

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seed of each point."""
        return self.labels.seed

    @property
    def count(self) -> int:
        """S."""
        return len(self.settings)


def points_of(settings: Study) -> Points:
    """One point for each seed of a study."""
    alone = tuple(replace(settings, seeds=(seed,)) for seed in settings.seeds)
    return Points(alone, Labels.of_seeds(settings.seeds))


def together(points: Points) -> Any:
    """The settings of the first point with the seeds of all: what is static holds for each."""
    return replace(points.settings[0], seeds=points.seeds)


def stacked(trees: Sequence[Any]) -> Any:
    """Numbers of S points: scalars where all have the same, so that a study by itself has them.

    Args:
        trees: pytrees of scalars, one per point.

    Returns:
        The same tree with leaves that are scalars or [S].

    Raises:
        ValueError: if one point has a number that another does not have at all.
    """
    structures = {jax.tree.structure(tree) for tree in trees}
    if len(structures) != 1:
        raise ValueError(
            "points: some have a number (momentum, weight_decay, gradient_clip) that others leave "
            "out with 0; allowed in one program: all or none"
        )

    def leaf(*values: Any) -> Any:
        first = np.asarray(values[0])
        if all(np.array_equal(first, np.asarray(value)) for value in values[1:]):
            return values[0]
        return jnp.stack([jnp.asarray(value) for value in values])

    return jax.tree.map(leaf, *trees)
