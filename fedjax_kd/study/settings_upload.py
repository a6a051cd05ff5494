"""The settings of what happens to an upload on its way to the server."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from fedjax_kd.study.settings import Positive

_checked = ConfigDict(extra="forbid")

Bits = Annotated[int, Field(strict=True, ge=1, le=16)]
Probability = Annotated[float, Field(strict=True, gt=0, lt=1)]


@dataclass(config=_checked, frozen=True)
class Quantise:
    """Every number is sent in few bits.

    `uniform` divides the range of each row into equal steps and sends its ends along;
    `largest_remainder` is the quantiser of CFD (arXiv:2012.00632) for rows of probabilities, which
    stay probabilities: with one bit they are one-hot.
    """

    kind: Literal["quantise"] = "quantise"
    bits: Bits = 8
    form: Literal["uniform", "largest_remainder"] = "uniform"


@dataclass(config=_checked, frozen=True)
class Delta:
    """Only rows that differ from the user's last upload are sent; the server keeps the others."""

    kind: Literal["delta"] = "delta"


@dataclass(config=_checked, frozen=True)
class ClipAndNoise:
    """The whole upload is clipped to a norm, and Gaussian noise is added.

    The noise has the deviation `multiplier` times `clip`. Instead of the multiplier, `epsilon` may
    be given: then it is the least one with which all rounds together are (epsilon, delta)
    differentially private for a user who takes part in each of them. `noise: each` gives every
    upload the whole of it; `share` gives every user the part with which the sum over the round's
    participants carries it once, so that only the sum is private: a secure sum has to follow.
    """

    kind: Literal["clip_and_noise"] = "clip_and_noise"
    clip: Positive = 1.0
    multiplier: Positive | None = None
    epsilon: Positive | None = None
    delta: Probability = 1e-5
    noise: Literal["each", "share"] = "each"


@dataclass(config=_checked, frozen=True)
class SecureSum:
    """The server gets the sum over the users in fixed-point numbers, and no upload by itself.

    Numbers of larger size than `largest` are clipped to it, so it has to cover what is sent: noise,
    if any was added (of several times its deviation), and, where models are weighed by their users'
    examples, changes of parameters times that number.
    """

    kind: Literal["secure_sum"] = "secure_sum"
    bits: Annotated[int, Field(strict=True, ge=2, le=24)] = 16
    largest: Positive = 1.0


Upload = Annotated[Quantise | Delta | ClipAndNoise | SecureSum, Field(discriminator="kind")]
