"""Random changes to pictures that a model trains on: shifts, mirroring, erased rectangles.

An augmentation is a tuple of steps, applied in that order to normalised pictures; () changes
nothing. It is static: part of a program, not of its data. The two named ones are what the released
code of two papers does to CIFAR.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import jax
import jax.numpy as jnp
from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

_checked = ConfigDict(extra="forbid")

_Probability = Annotated[float, Field(strict=True, ge=0, le=1)]
_Area = Annotated[float, Field(strict=True, gt=0, le=1)]
_Positive = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]


@dataclass(config=_checked, frozen=True)
class Crop:
    """Surrounds a picture with zeros and cuts one of its own size out, anywhere."""

    kind: Literal["crop"] = "crop"
    padding: Annotated[int, Field(strict=True, ge=1)] = 4  # pixels on every side


@dataclass(config=_checked, frozen=True)
class Flip:
    """Mirrors a picture, left to right."""

    kind: Literal["flip"] = "flip"
    probability: _Probability = 0.5


@dataclass(config=_checked, frozen=True)
class Erase:
    """Sets a rectangle inside a picture to zero.

    Its area is a uniform share of the picture's, its height to width ratio uniform in the
    logarithm, as in torchvision's `RandomErasing`; its place is uniform.
    """

    kind: Literal["erase"] = "erase"
    probability: _Probability = 0.5
    area: tuple[_Area, _Area] = (0.04, 0.2)
    aspect: tuple[_Positive, _Positive] = (0.5, 2.0)

    @model_validator(mode="after")
    def _ordered(self) -> Erase:
        for name, (low, high) in (("area", self.area), ("aspect", self.aspect)):
            if low > high:
                raise ValueError(f"{name} = [{low}, {high}]; the first must not exceed the second")
        return self


Step = Annotated[Crop | Flip | Erase, Field(discriminator="kind")]
Augmentation = tuple[Step, ...]

AUGMENTATIONS: dict[str, Augmentation] = {
    "none": (),
    "crop_flip": (Crop(), Flip()),  # on-device KD, arXiv:2503.11151, CIFAR-10
    "flip_erase_crop": (Flip(), Erase(), Crop()),  # pFedAFM, arXiv:2404.17847, CIFAR-10 and -100
}
"""Augmentations by name."""


def check_augmentation(augmentation: Augmentation, input_shape: tuple[int, ...]) -> None:
    """Refuses to augment examples that are no pictures.

    Raises:
      ValueError: there is something to do, and one example is not [height, width, channels].
    """
    if augmentation and len(input_shape) != 3:
        steps = ", ".join(step.kind for step in augmentation)
        raise ValueError(
            f"data.augmentation: {steps}, but an example has shape {tuple(input_shape)}; only"
            " pictures [height, width, channels] can be augmented, and others need none"
        )


def augment(augmentation: Augmentation, key: jax.Array, inputs: jax.Array) -> jax.Array:
    """Changes every picture of a batch at random.

    A picture's draws come from the key and its place in the batch alone, so they do not depend on
    how far the batch is padded.

    Args:
      augmentation: what is done, in order; static.
      key: typed key, of this batch only.
      inputs: [B, H, W, C], normalised, so that zero is the mean.

    Returns:
      [B, H, W, C]; `inputs` itself, without a random number drawn, where nothing is to be done.

    Raises:
      ValueError: something is to be done, and the inputs are no pictures.
    """
    check_augmentation(augmentation, inputs.shape[1:])
    if not augmentation:
        return inputs

    def one_picture(position: jax.Array, picture: jax.Array) -> jax.Array:
        own = jax.random.fold_in(key, position)
        for number, step in enumerate(augmentation):
            picture = _apply(step, jax.random.fold_in(own, number), picture)
        return picture

    return jax.vmap(one_picture)(jnp.arange(inputs.shape[0]), inputs)


def _apply(step: Crop | Flip | Erase, key: jax.Array, picture: jax.Array) -> jax.Array:
    """One step on one picture [H, W, C]."""
    if isinstance(step, Crop):
        return _crop(step, key, picture)
    if isinstance(step, Flip):
        return jnp.where(jax.random.bernoulli(key, step.probability), picture[:, ::-1], picture)
    return _erase(step, key, picture)


def _crop(step: Crop, key: jax.Array, picture: jax.Array) -> jax.Array:
    pad = step.padding
    top, left = jax.random.randint(key, (2,), 0, 2 * pad + 1)
    padded = jnp.pad(picture, ((pad, pad), (pad, pad), (0, 0)))
    return jax.lax.dynamic_slice(padded, (top, left, jnp.zeros_like(top)), picture.shape)


def _erase(step: Erase, key: jax.Array, picture: jax.Array) -> jax.Array:
    """Deviation: torchvision draws again where a rectangle does not fit; here it is cut to fit.

    With the areas and ratios of pFedAFM's code every rectangle fits.
    """
    height, width = picture.shape[:2]
    whether, size, place = jax.random.split(key, 3)
    low = jnp.asarray([step.area[0], math.log(step.aspect[0])], jnp.float32)
    high = jnp.asarray([step.area[1], math.log(step.aspect[1])], jnp.float32)
    area, log_aspect = low + (high - low) * jax.random.uniform(size, (2,), jnp.float32)
    root = jnp.sqrt(area * (height * width))
    stretch = jnp.exp(0.5 * log_aspect)
    tall = jnp.clip(jnp.round(root * stretch), 1, height - 1).astype(jnp.int32)
    wide = jnp.clip(jnp.round(root / stretch), 1, width - 1).astype(jnp.int32)
    top, left = jax.random.randint(place, (2,), 0, jnp.stack([height - tall, width - wide]) + 1)
    row, column = jnp.arange(height) - top, jnp.arange(width) - left
    inside = ((row >= 0) & (row < tall))[:, None] & ((column >= 0) & (column < wide))[None, :]
    erased = inside & jax.random.bernoulli(whether, step.probability)
    return jnp.where(erased[:, :, None], jnp.zeros_like(picture), picture)
