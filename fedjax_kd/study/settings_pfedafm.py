"""The settings of a study of pFedAFM, its variants and its baselines."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from fedjax_kd.study.settings import Count, ModelSpec, NonNegative, Positive, Seed, Training
from fedjax_kd.study.settings_rounds import (
    Evaluation,
    LearningRateDrop,
    Links,
    Reach,
    RoundsData,
)

_checked = ConfigDict(extra="forbid")

PFedAfmContestant = Literal[
    "pfedafm",
    "pfedafm_released_code",
    "pfedafm_joint",
    "local",
    "lg_fedavg",
    "fedproto",
]


@dataclass(config=_checked, frozen=True)
class PFedAfmStudy:
    """pFedAFM, a mixture of own and shared features, against baselines (Yi et al. 2024).

    User u has the architecture `models[u mod G]`; the extractor of `shared` is the small one that
    everybody exchanges, and all of them must give as many features. `training` is one stage of
    pFedAFM and the whole round of a baseline. `prototype_weight` belongs to FedProto. The first
    contestant is the one that the others are held against.

    arXiv:2404.17847. The defaults of `training` but for epochs and batch size are those of the
    paper's code, and so is `mixing_learning_rate`.
    """

    method: Literal["pfedafm"]
    title: str = ""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0, 1, 2)
    data: RoundsData = Field(default_factory=RoundsData)
    models: Annotated[tuple[ModelSpec, ...], Field(min_length=1)] = (
        ModelSpec(name="cnn1"),
        ModelSpec(name="cnn2"),
        ModelSpec(name="cnn3"),
        ModelSpec(name="cnn4"),
        ModelSpec(name="cnn5"),
    )
    shared: ModelSpec = Field(default_factory=lambda: ModelSpec(name="cnn5"))
    rounds: Count = 100
    training: Training = Field(
        default_factory=lambda: Training(
            epochs=2, learning_rate=0.01, weight_decay=1e-3, gradient_clip=50.0
        )
    )
    learning_rates: dict[PFedAfmContestant, Positive] = Field(default_factory=dict)
    mixing_learning_rate: Positive = 0.01
    prototype_weight: NonNegative = 1.0
    contestants: Annotated[tuple[PFedAfmContestant, ...], Field(min_length=1)] = (
        "pfedafm",
        "local",
        "lg_fedavg",
        "fedproto",
    )
    participation: Reach = Field(default_factory=Reach)
    learning_rate_drop: LearningRateDrop = Field(default_factory=LearningRateDrop)
    evaluation: Evaluation = Field(default_factory=Evaluation)
    system: Links = Field(default_factory=Links)
