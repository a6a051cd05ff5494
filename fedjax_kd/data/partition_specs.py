"""The settings of each partitioner: which one, and its parameters."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

_checked = ConfigDict(extra="forbid")

_Positive = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
_Fraction = Annotated[float, Field(strict=True, ge=0, le=1)]
_Count = Annotated[int, Field(strict=True, ge=1)]


@dataclass(config=_checked, frozen=True)
class Iid:
    """Every user draws from the same distribution; user sizes differ by at most one."""

    kind: Literal["iid"] = "iid"


@dataclass(config=_checked, frozen=True)
class Dirichlet:
    """Label skew: each class is divided over the users by Dirichlet(alpha) proportions.

    The variant of Hsu et al. 2019 (arXiv:1909.06335) as FedML implements it: users that already
    hold their fair share take no more, and the draw is repeated until each holds `min_examples`.
    """

    kind: Literal["dirichlet"] = "dirichlet"
    alpha: _Positive = 0.5
    min_examples: _Count = 10
    max_tries: _Count = 1000


@dataclass(config=_checked, frozen=True)
class DirichletPooled:
    """The Dirichlet of PFLlib and HtFLlib, by which many tables of the field are made.

    The stock training and test examples are pooled and divided; every user's share is then cut into
    training and test examples, 75 to 25 in the reference, as `test_fraction` says. So there is no
    common test set but the union of the users' own. `min_examples` is the reference's: one batch of
    10 for a test part of a quarter (at most half of a fair share is asked for).

    Without `seed` the study's seed decides. With it, the partition is that of NumPy's legacy
    generator with this seed, the same for every seed of the study; 1 is the reference's, and with
    20 users, alpha 0.1 and CIFAR-10's 6,000 examples of each class it gives the published table of
    class counts.
    """

    kind: Literal["dirichlet_pooled"] = "dirichlet_pooled"
    alpha: _Positive = 0.1
    min_examples: _Count = 40
    max_tries: _Count = 1000
    seed: Annotated[int, Field(strict=True, ge=0, lt=2**32)] | None = None


@dataclass(config=_checked, frozen=True)
class ClassesPerUser:
    """Each user holds examples of a fixed number of distinct classes, in uneven shares.

    A holder's share of a class is proportional to a draw from U(low, high).
    """

    kind: Literal["classes_per_user"] = "classes_per_user"
    classes: _Count = 2
    low: _Fraction = 0.4
    high: Annotated[float, Field(strict=True, gt=0, le=1)] = 0.6

    @model_validator(mode="after")
    def _ordered(self) -> ClassesPerUser:
        if self.low > self.high:
            raise ValueError(f"low = {self.low} must not exceed high = {self.high}")
        return self


@dataclass(config=_checked, frozen=True)
class DirichletCounts:
    """Every user holds every class; Dirichlet(alpha) proportions set how much of each.

    What papers of pFedAFM's authors describe as their practical partition (arXiv:2404.17847 does
    not give its generator): in contrast to `Dirichlet`, no class is missing anywhere and a user may
    hold far more than its fair share.
    """

    kind: Literal["dirichlet_counts"] = "dirichlet_counts"
    alpha: _Positive = 0.5


@dataclass(config=_checked, frozen=True)
class QuantitySkew:
    """Same label distribution everywhere, user sizes by Dirichlet(alpha)."""

    kind: Literal["quantity_skew"] = "quantity_skew"
    alpha: _Positive = 0.5
    min_examples: _Count = 10
    max_tries: _Count = 1000


@dataclass(config=_checked, frozen=True)
class Natural:
    """The users that the data set itself names."""

    kind: Literal["natural"] = "natural"


Partition = Annotated[
    Iid | Dirichlet | DirichletCounts | DirichletPooled | ClassesPerUser | QuantitySkew | Natural,
    Field(discriminator="kind"),
]


@dataclass(config=_checked, frozen=True)
class UnlabelledShards:
    """Strong users hold further shards of the partition, without their labels.

    The partitioner makes users + strong * shards_per_strong shards. The first are the users' own;
    strong user i holds the i-th `shards_per_strong` of the others, whose mix of classes has nothing
    to do with that of its labelled data. The defaults are those of the released code of on-device
    KD (arXiv:2503.11151) for CIFAR-10, with 100 users.
    """

    strong: _Count = 20  # users 0..strong-1
    shards_per_strong: _Count = 5
    kind: Literal["shards"] = "shards"


@dataclass(config=_checked, frozen=True)
class UnlabelledShare:
    """Strong users lose the labels of a share of their own training examples.

    For partitions whose users are given, such as `Natural`.
    """

    strong: _Count = 2  # users 0..strong-1
    share: Annotated[float, Field(strict=True, gt=0, lt=1)] = 0.5
    kind: Literal["share"] = "share"


Unlabelled = Annotated[UnlabelledShards | UnlabelledShare, Field(discriminator="kind")]
