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
    Iid | Dirichlet | ClassesPerUser | QuantitySkew | Natural, Field(discriminator="kind")
]
