"""The settings of a study of the federated distillation family: methods side by side."""

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
from fedjax_kd.study.settings_upload import Upload

_checked = ConfigDict(extra="forbid")

FamilyContestant = Literal[
    "local",
    "fedavg",
    "fedprox",
    "lg_fedavg",
    "fd",
    "fedproto",
    "fml",
    "fedmd",
    "ds_fl",
    "feddf",
]
REFERENCE = "local"  # the row that every exchange has to beat


@dataclass(config=_checked, frozen=True)
class Sharpening:
    """How DS-FL makes the mean of the users' scores more certain.

    `era` is softmax(p / strength) of probabilities p, with less the sharper, and by default 0.1,
    DS-FL's temperature (arXiv:2008.06180); `power` is p to the power of strength, with more the
    sharper, and by default 2, as SCARLET has it. `none` has no strength.
    """

    kind: Literal["era", "power", "none"] = "era"
    strength: Positive | None = None

    @property
    def chosen_strength(self) -> float:
        """The strength, or the default of the kind; 1 where there is none."""
        return self.strength or {"era": 0.1, "power": 2.0, "none": 1.0}[self.kind]


@dataclass(config=_checked, frozen=True)
class PublicSet:
    """What is done with the public examples that `data.public` says where to take from.

    `per_round` of them are drawn for each round. Users digest the common scores on them for
    `digest_epochs`, with the momentum, weight decay and clip of `training`. `server_steps` is how
    long the server distils in FedDF; 0 leaves FedAvg within each architecture. Its optimiser and
    that one's learning rate are those of the authors' code (arXiv:2006.07242), which takes up to
    10,000 steps. Before a user's first round of FedMD come `pretraining_epochs` on the public
    examples' labels and `pretraining_own_epochs` on its own. All other numbers are assumptions of
    ours.
    """

    per_round: Count = 200
    batch_size: Count = 32
    digest_epochs: Count = 1
    digest_learning_rate: Positive = 0.02
    sharpen: Sharpening = Field(default_factory=Sharpening)
    server_steps: CountOrZero = 50
    server_optimiser: Literal["adam_cosine", "adam", "sgd"] = "adam_cosine"
    server_learning_rate: Positive = 0.001
    pretraining_epochs: CountOrZero = 0
    pretraining_own_epochs: CountOrZero = 0


@dataclass(config=_checked, frozen=True)
class FamilyStudy:
    """The family of federated distillation: who exchanges what, at what price, for what accuracy.

    User u has the architecture `models[u mod G]`. `training` is a user's round of training on its
    own examples; `learning_rates` gives contestants a rate of their own. `meme` is the model that
    travels in FML. `upload` is what happens to everything that users send on its way to the server,
    step by step; without steps it arrives as it was sent. `local`, which sends nothing, is always
    among the contestants: it is the reference that the others are held against.

    Where a number below is a paper's, it is said so; the others are assumptions of ours. `hard`
    shares of FML (alpha and beta) are those of HtFLlib's scripts, and `prototype_weight` is the
    authors' code's.
    """

    method: Literal["family"]
    title: str = ""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0, 1, 2)
    data: RoundsData = Field(default_factory=RoundsData)
    models: Annotated[tuple[ModelSpec, ...], Field(min_length=1)] = (ModelSpec(name="lenet"),)
    meme: ModelSpec = Field(default_factory=lambda: ModelSpec(name="lenet"))
    rounds: Count = 100
    training: Training = Field(default_factory=lambda: Training(epochs=1, learning_rate=0.02))
    learning_rates: dict[FamilyContestant, Positive] = Field(default_factory=dict)
    proximal: NonNegative = 0.1  # mu of FedProx
    fd_weight: NonNegative = 1.0
    fd_temperature: Positive = 1.0
    prototype_weight: NonNegative = 1.0  # of FedProto
    fml_hard: Fraction = 0.5  # share of the labels in the private model's loss
    fml_meme_hard: Fraction = 0.5  # share of the labels in the meme's loss
    public_set: PublicSet = Field(default_factory=PublicSet)
    upload: tuple[Upload, ...] = ()
    contestants: Annotated[tuple[FamilyContestant, ...], Field(min_length=1)] = (
        "local",
        "fedavg",
        "fedprox",
        "lg_fedavg",
        "fd",
        "fedproto",
        "fml",
    )
    participation: Reach = Field(default_factory=Reach)
    learning_rate_drop: LearningRateDrop = Field(default_factory=LearningRateDrop)
    evaluation: Evaluation = Field(default_factory=Evaluation)
    system: Links = Field(default_factory=Links)
