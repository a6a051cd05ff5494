"""The settings of a study of DFML, its variants and its baselines."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from fedjax_kd.study.settings import (
    Count,
    CountOrZero,
    Fraction,
    ModelSpec,
    NonNegative,
    Positive,
    Seed,
    Training,
)
from fedjax_kd.study.settings_rounds import (
    Evaluation,
    LearningRateDrop,
    Links,
    Reach,
    RoundsData,
)

_checked = ConfigDict(extra="forbid")

DfmlContestant = Literal[
    "dfml",
    "decentralised_fedavg",
    "decentralised_fedavg_wsm",
    "decentralised_fml",
    "def_kt",
    "local",
    "dfml_constant_alpha",
    "dfml_cross_entropy",
]


@dataclass(config=_checked, frozen=True)
class Alpha:
    """The share of distillation in the loss, which goes up and down in cycles of rounds.

    The first cycle has `period` rounds, every later one `growth` more. That alpha is cyclic is the
    paper's; shape, maximum, period and growth are our assumptions.
    """

    maximum: Fraction = 1.0
    period: Annotated[int, Field(strict=True, ge=2)] = 10
    growth: CountOrZero = 2
    shape: Literal["cosine", "sawtooth", "constant"] = "cosine"


@dataclass(config=_checked, frozen=True)
class DfmlStudy:
    """DFML, mutual learning without a server, against baselines (Khalil et al. 2024).

    User u has the architecture `models[u mod G]`. In every round one user is the aggregator and
    `senders` others send it their models. `training.epochs` are the aggregator's epochs of mutual
    learning, and the epochs that a participant of a baseline trains. `local_epochs` of training on
    its own examples go before a model is sent. `peak_floor` is the share of the maximum of alpha
    from which on, after the first cycle, a model may replace the peak model. `meme` is the small
    model that travels in decentralised FML. The first contestant is the one that the others are
    held against.

    arXiv:2402.01863. Temperature, peak floor, local epochs and all rates are our assumptions.
    """

    method: Literal["dfml"]
    title: str = ""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0, 1, 2)
    data: RoundsData = Field(default_factory=RoundsData)
    models: Annotated[tuple[ModelSpec, ...], Field(min_length=1)] = (
        ModelSpec(name="mlp"),
        ModelSpec(name="lenet"),
    )
    senders: Count = 2
    rounds: Count = 100
    training: Training = Field(default_factory=lambda: Training(epochs=10, batch_size=64))
    learning_rates: dict[DfmlContestant, Positive] = Field(default_factory=dict)
    alpha: Alpha = Field(default_factory=Alpha)
    temperature: Positive = 1.0
    peak_floor: Fraction = 0.9
    local_epochs: CountOrZero = 0
    meme: ModelSpec = Field(default_factory=lambda: ModelSpec(name="lenet"))
    constant_alpha: Fraction = 0.5  # of the contestant dfml_constant_alpha
    fml_hard: Fraction = 0.5  # share of the labels in both losses of decentralised FML
    def_kt_weight: NonNegative = 1.0  # of the soft loss in Def-KT
    contestants: Annotated[tuple[DfmlContestant, ...], Field(min_length=1)] = (
        "dfml",
        "decentralised_fedavg",
        "decentralised_fedavg_wsm",
        "decentralised_fml",
        "def_kt",
    )
    participation: Reach = Field(default_factory=Reach)
    learning_rate_drop: LearningRateDrop = Field(default_factory=LearningRateDrop)
    evaluation: Evaluation = Field(default_factory=Evaluation)
    system: Links = Field(default_factory=Links)
