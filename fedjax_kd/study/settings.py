"""The settings of a study: what a YAML file may say, with types, ranges and defaults.

Three kinds are never mixed. *Static* settings are shapes, names and counts: a change compiles a new
program. *Traced* settings (`TrainingRates`, `DistillationRates`, `Objective.delay_weight`, the
Q-learning rates) are numbers that a compiled program takes as arguments. *Runtime* settings
(paths, devices, verbosity) are not here at all: they never belong to a result's identity, so they
are arguments of the command line.

Every class is a frozen dataclass whose fields are checked when it is made: unknown names, wrong
types and values out of range raise `pydantic.ValidationError`, which `load.py` turns into a
message.

No default below is a number of the DT-KD paper, whose text gives none: all are our assumptions.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from fedjax_kd.data import Dirichlet, Partition

_checked = ConfigDict(extra="forbid")

Positive = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(strict=True, ge=0, le=1)]
Count = Annotated[int, Field(strict=True, ge=1)]
CountOrZero = Annotated[int, Field(strict=True, ge=0)]
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**31)]

# ---------------------------------------------------------------------------------------- data


@dataclass(config=_checked, frozen=True)
class Data:
    """Which examples there are, and who holds them.

    Each user's share is divided into a test split, a validation split and a training split, in that
    order; the caps then keep what a device would have. `common_validation` and `common_test` count
    the examples of the held-out set that every model is scored on (0 takes all that are left).
    `recordings` matters for sources of overlapping windows: `in_time` tests on the end of every
    recording, `whole` on recordings that the user has not trained on at all.
    """

    source: str = "digits"
    users: Count = 5
    partition: Partition = Field(default_factory=Dirichlet)
    test_fraction: Annotated[float, Field(strict=True, gt=0, lt=1)] = 0.25
    validation_fraction: Annotated[float, Field(strict=True, gt=0, lt=1)] = 0.15
    max_train: CountOrZero = 0
    max_validation: CountOrZero = 0
    max_test: CountOrZero = 0
    common_fraction: Annotated[float, Field(strict=True, gt=0, lt=1)] = 0.2
    common_validation: Count = 200
    common_test: CountOrZero = 0
    recordings: Literal["in_time", "whole"] = "in_time"


# -------------------------------------------------------------------------------------- models


@dataclass(config=_checked, frozen=True)
class ModelSpec:
    """An architecture of the catalog with its options; one that it does not have is refused."""

    name: str
    width: Positive | None = None
    hidden: tuple[Count, ...] | None = None
    norm: Literal["group", "batch"] | None = None

    @property
    def label(self) -> str:
        """A short name that tells two specs of one study apart, e.g. `resnet20-x0.25`."""
        parts = [self.name]
        if self.hidden is not None:
            parts.append("x".join(str(size) for size in self.hidden))
        if self.width is not None:
            parts.append(f"x{self.width:g}")
        if self.norm is not None:
            parts.append(self.norm)
        return "-".join(parts)


# ------------------------------------------------------------------------------------ training


@dataclass(config=_checked, frozen=True)
class Training:
    """Local stochastic gradient descent: `epochs` and `batch_size` are static, the rates traced."""

    epochs: Count = 5
    batch_size: Count = 32
    learning_rate: Positive = 0.05
    momentum: Annotated[float, Field(strict=True, ge=0, lt=1)] = 0.9
    weight_decay: NonNegative = 0.0
    gradient_clip: NonNegative = 0.0  # global norm; 0 clips nothing


@dataclass(config=_checked, frozen=True)
class Teacher:
    """The big model at the server's digital twins.

    `federated`: FedAvg over the twins, `rounds` rounds of `training.epochs` epochs each.
    `pooled`: one model on the union of the twins' data, `rounds * training.epochs` epochs.
    """

    model: ModelSpec = Field(default_factory=lambda: ModelSpec(name="cnn1"))
    mode: Literal["federated", "pooled"] = "federated"
    rounds: Count = 20
    training: Training = Field(default_factory=Training)


@dataclass(config=_checked, frozen=True)
class Distillation:
    """Hinton distillation of a student: (1 - weight) CE + weight * temperature^2 * KL."""

    temperature: Positive = 3.0
    weight: Fraction = 0.7
    training: Training = Field(default_factory=lambda: Training(epochs=20))


@dataclass(config=_checked, frozen=True)
class Twin:
    """What of the users' data the digital twins hold.

    `synchronised` is the share of each user's training examples that the server already has: the
    teacher learns from these, and only the rest is uploaded when a user trains at the server.
    `unsynchronised_labels` says whether a user who trains on the device gets soft labels for
    examples the server has never seen: `none` (there is nothing at the server to label; those
    examples are learnt from their hard labels) or `free` (they are labelled at no cost: the literal
    reading of the reconstructed delay table).
    """

    synchronised: Annotated[float, Field(strict=True, gt=0, le=1)] = 1.0
    unsynchronised_labels: Literal["none", "free"] = "none"


# -------------------------------------------------------------------------------------- system


@dataclass(config=_checked, frozen=True)
class System:
    """Radio and computing budgets: `profile` names a file of device ranges, the rest overrides."""

    profile: str = "cell_500m"
    uplink_hz: Positive | None = None
    downlink_hz: Positive | None = None
    teacher_inference: Annotated[bool, Field(strict=True)] = True


@dataclass(config=_checked, frozen=True)
class Objective:
    """U = mean accuracy - delay_weight * delay / reference delay.

    `accuracy` says on what the accuracy table is measured: the user's own validation split
    (`personal`), the common validation set (`common`) or the mean of both (`both`).
    """

    delay_weight: NonNegative = 0.5
    delay: Literal["sum", "makespan"] = "sum"
    accuracy: Literal["personal", "common", "both"] = "personal"
    reference_draws: Count = 256
    frontier_weights: Annotated[tuple[NonNegative, ...], Field(min_length=1)] = (
        0.0,
        0.05,
        0.1,
        0.2,
        0.5,
        1.0,
        2.0,
    )


@dataclass(config=_checked, frozen=True)
class Policy:
    """Tabular Q-learning over (user, users offloaded so far), and the policies beside it."""

    episodes: Count = 20_000
    frontier_episodes: Count = 20_000
    learning_rate: Annotated[float, Field(strict=True, gt=0, le=1)] = 0.1
    discount: Annotated[float, Field(strict=True, gt=0, le=1)] = 1.0
    epsilon_start: Fraction = 1.0
    epsilon_end: Fraction = 0.02
    epsilon_decay: Annotated[float, Field(strict=True, gt=0, le=1)] = 0.7
    exhaustive_limit: CountOrZero = 300_000  # joint decisions; above this, no exhaustive search


@dataclass(config=_checked, frozen=True)
class Allocation:
    """How bandwidth and server compute are shared, given the decision."""

    method: Literal["projected_gradient", "closed_form", "equal"] = "projected_gradient"


@dataclass(config=_checked, frozen=True)
class FedAvgBaseline:
    """FedAvg of the smallest student over all users, every user in every round."""

    rounds: Count = 20
    training: Training = Field(default_factory=lambda: Training(epochs=1))


@dataclass(config=_checked, frozen=True)
class DtKdStudy:
    """A DT-KD study (Wang et al. 2023, arXiv:2303.06155; reconstruction, see the README)."""

    method: Literal["dt_kd"]
    title: str = ""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0, 1, 2)
    data: Data = Field(default_factory=Data)
    students: Annotated[tuple[ModelSpec, ...], Field(min_length=1)] = (
        ModelSpec(name="mlp"),
        ModelSpec(name="lenet"),
        ModelSpec(name="cnn5"),
    )
    teacher: Teacher = Field(default_factory=Teacher)
    distillation: Distillation = Field(default_factory=Distillation)
    twin: Twin = Field(default_factory=Twin)
    system: System = Field(default_factory=System)
    objective: Objective = Field(default_factory=Objective)
    policy: Policy = Field(default_factory=Policy)
    allocation: Allocation = Field(default_factory=Allocation)
    fedavg: FedAvgBaseline = Field(default_factory=FedAvgBaseline)
