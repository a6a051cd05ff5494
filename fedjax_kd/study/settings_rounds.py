"""Parts of the settings that all studies of methods in rounds share.

Kinds of settings and the way they are checked are those of `fedjax_kd.study.settings`. A number
that is not said to be a paper's is an assumption of ours.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from fedjax_kd.data import Statistics
from fedjax_kd.study.settings import Count, CountOrZero, Data, NonNegative, Positive

_checked = ConfigDict(extra="forbid")

AugmentationName = Literal["none", "crop_flip", "flip_erase_crop"]


@dataclass(config=_checked, frozen=True)
class Shards:
    """Every strong user holds this many further shards of the partition, without their labels.

    The mix of classes in them has nothing to do with that of the user's labelled examples. Five is
    the number of the released code of on-device KD, with 100 users of which 20 are strong.
    """

    kind: Literal["shards"] = "shards"
    shards_per_strong: Count = 5


@dataclass(config=_checked, frozen=True)
class Share:
    """Every strong user loses the labels of a share of its own training examples."""

    kind: Literal["share"] = "share"
    share: Annotated[float, Field(strict=True, gt=0, lt=1)] = 0.5


Unlabelled = Annotated[Shards | Share, Field(discriminator="kind")]


@dataclass(config=_checked, frozen=True)
class PublicSplit:
    """Public examples taken out of the training set before users get any: nobody's own.

    They are drawn with the seed. `labelled` says whether methods may use their labels.
    """

    kind: Literal["split"] = "split"
    examples: Count = 1000
    labelled: Annotated[bool, Field(strict=True)] = False


@dataclass(config=_checked, frozen=True)
class PublicSource:
    """Public examples from the training set of another data set, with inputs of the same shape.

    They are drawn with the seed and normalised as the private examples are, by the statistics of
    the private data set, which is all that a client could know. Their labels do not count, for the
    classes are others.
    """

    source: str
    kind: Literal["source"] = "source"
    examples: Count = 1000

    @property
    def labelled(self) -> bool:
        """Whether methods may use labels."""
        return False


Public = Annotated[PublicSplit | PublicSource, Field(discriminator="kind")]


@dataclass(config=_checked, frozen=True)
class RoundsData(Data):
    """The data of a study in rounds: who holds what, and how examples reach the models.

    `unlabelled` is where the examples without labels come from that on-device KD distils on; the
    other methods use none. `public` examples are those that methods with a public set exchange
    scores on. A `validation_fraction` of 0 leaves all that is not for testing for training, for
    nothing is chosen by validation here. `statistics` normalise the inputs: computed for each
    channel or each pixel, or given as the channels' means and standard deviations. `augmentation`
    changes the examples of training batches at random, never those that models are scored on.
    """

    validation_fraction: Annotated[float, Field(strict=True, ge=0, lt=1)] = 0.15
    unlabelled: Unlabelled | None = None
    max_unlabelled: CountOrZero = 0
    public: Public | None = None
    statistics: Statistics = "channel"
    augmentation: AugmentationName = "none"


@dataclass(config=_checked, frozen=True)
class StepTraining:
    """Local stochastic gradient descent by a number of steps; the rates are traced."""

    steps: Count = 30
    batch_size: Count = 32
    learning_rate: Positive = 0.05
    momentum: Annotated[float, Field(strict=True, ge=0, lt=1)] = 0.9
    weight_decay: NonNegative = 0.0
    gradient_clip: NonNegative = 0.0  # global norm; 0 clips nothing


@dataclass(config=_checked, frozen=True)
class Reach:
    """Whom a round can reach at all; roles inside a method are drawn among these.

    `cohort` users are drawn in every round, all of them if it is left out; each of them drops out
    with the probability `drop_out`, independently of all others. So `drop_out` alone, without a
    cohort, is Poisson sampling: everybody takes part with the probability 1 - `drop_out`.
    """

    cohort: Count | None = None
    drop_out: Annotated[float, Field(strict=True, ge=0, lt=1)] = 0.0

    @property
    def poisson_rate(self) -> float | None:
        """With which probability everybody takes part in a round, independently of the others.

        None where a cohort of a fixed size is drawn: amplification of privacy by sampling is shown
        for Poisson sampling only, so an accountant must then count everybody as there (1.0).
        """
        return 1.0 - self.drop_out if self.cohort is None else None


@dataclass(config=_checked, frozen=True)
class LearningRateDrop:
    """Every learning rate is multiplied by `factor` after each of these numbers of rounds."""

    rounds: tuple[Count, ...] = ()
    factor: Annotated[float, Field(strict=True, gt=0, le=1)] = 0.1


@dataclass(config=_checked, frozen=True)
class Evaluation:
    """Models are scored after every `every`-th round and after the last one."""

    every: Count = 1


@dataclass(config=_checked, frozen=True)
class Links:
    """Devices and radio: `profile` names a file of device ranges, the rest overrides its bands."""

    profile: str = "cell_500m"
    uplink_hz: Positive | None = None
    downlink_hz: Positive | None = None
