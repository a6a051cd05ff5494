"""The settings of a study of on-device KD for weak clients, its variants and its baselines."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from fedjax_kd.study.settings import Count, ModelSpec, NonNegative, Positive, Seed
from fedjax_kd.study.settings_rounds import (
    Evaluation,
    LearningRateDrop,
    Links,
    Reach,
    RoundsData,
    Shards,
    StepTraining,
)

_checked = ConfigDict(extra="forbid")

OnDeviceKdContestant = Literal[
    "on_device_kd",
    "target_only",
    "auxiliary_only",
    "server_ensemble",
    "kd_only",
    "constant_weight",
]


@dataclass(config=_checked, frozen=True)
class Ramp:
    """How the target learns from the auxiliary model on unlabelled examples.

    The soft loss weighs omega(t) T^2, omega(t) = weight * exp(-5 (1 - t / ramp_rounds)^2) before
    round `ramp_rounds` and `weight` from there on; `schedule: constant` is `weight` throughout.
    Without `ramp_rounds` the ramp takes three
    quarters of the study's rounds, as in the paper's code (300 of 400).
    `kd_only` leaves the labelled steps of the target out. The defaults are the numbers of the
    paper's code, of whose teacher `teacher_statistics: batch` is the mode too: batch normalisation
    by the batch at hand instead of the running statistics. `variant_weight` is the constant weight
    of the contestants `kd_only` and `constant_weight`, 1 in the paper's code at the time.
    """

    temperature: Positive = 3.0
    weight: NonNegative = 0.5
    ramp_rounds: Count | None = None
    schedule: Literal["ramp", "constant"] = "ramp"
    kd_only: Annotated[bool, Field(strict=True)] = False
    teacher_statistics: Literal["batch", "running"] = "batch"
    variant_weight: NonNegative = 1.0


@dataclass(config=_checked, frozen=True)
class OnDeviceKdStudy:
    """On-device KD for weak clients against baselines (Lim et al. 2025, arXiv:2503.11151).

    `strong` users, the first ones, can train the target; `cohort` users, drawn each round, train
    the auxiliary model (all, if it is left out). `server_steps` is how long the server distils in
    the contestant `server_ensemble`. The first contestant is the one that the others are held
    against.
    """

    method: Literal["on_device_kd"]
    title: str = ""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0, 1, 2)
    data: RoundsData = Field(default_factory=lambda: RoundsData(unlabelled=Shards()))
    auxiliary: ModelSpec = Field(default_factory=lambda: ModelSpec(name="lenet", width=0.5))
    target: ModelSpec = Field(default_factory=lambda: ModelSpec(name="lenet", width=2.0))
    strong: Count = 1
    cohort: Count | None = None
    rounds: Count = 100
    training: StepTraining = Field(default_factory=StepTraining)
    learning_rates: dict[OnDeviceKdContestant, Positive] = Field(default_factory=dict)
    distillation: Ramp = Field(default_factory=Ramp)
    server_steps: Count = 30
    contestants: Annotated[tuple[OnDeviceKdContestant, ...], Field(min_length=1)] = (
        "on_device_kd",
        "target_only",
        "auxiliary_only",
        "server_ensemble",
    )
    participation: Reach = Field(default_factory=Reach)
    learning_rate_drop: LearningRateDrop = Field(default_factory=LearningRateDrop)
    evaluation: Evaluation = Field(default_factory=Evaluation)
    system: Links = Field(default_factory=lambda: Links(profile="cell_weak_strong"))
