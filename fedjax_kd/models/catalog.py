"""The architectures by name, and the check of what may be asked of each."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, cast

from flax import linen as nn

from fedjax_kd.models import cnn, cnn1d, lenet, resnet
from fedjax_kd.models.layers import Dense, Initialiser, NormKind
from fedjax_kd.models.mlp import MlpExtractor
from fedjax_kd.models.model import Model, Network


class Options(NamedTuple):
    """What an architecture is built from, defaults filled in."""

    width: float
    hidden: tuple[int, ...]
    norm: NormKind


@dataclass(frozen=True)
class Architecture:
    """One entry of `MODELS`.

    Attributes:
        extractor: makes the feature extractor.
        input_kind: "image" for [H, W, channels], "sequence" for [T, channels], "any".
        smallest: least rows and columns, or steps, of an input.
        options: names of the options it takes, of `width`, `hidden` and `norm`.
        head_initialiser: of the dense layer on top.
    """

    extractor: Callable[[Options], nn.Module]
    input_kind: Literal["image", "sequence", "any"] = "image"
    smallest: int = 1
    options: tuple[str, ...] = ("width",)
    head_initialiser: Initialiser = "fan_in_uniform"


def _cnn(name: str) -> Architecture:
    filters, units = cnn.CNN_SIZES[name]
    return Architecture(
        extractor=lambda options: cnn.CnnExtractor(filters, units, options.width),
        smallest=cnn.SMALLEST,
    )


def _resnet(blocks: int) -> Architecture:
    return Architecture(
        extractor=lambda options: resnet.ResNetExtractor(blocks, options.norm, options.width),
        smallest=resnet.SMALLEST,
        options=("width", "norm"),
        head_initialiser="glorot_uniform",
    )


MODELS: dict[str, Architecture] = {
    "mlp": Architecture(
        extractor=lambda options: MlpExtractor(options.hidden),
        input_kind="any",
        options=("hidden",),
    ),
    "lenet": Architecture(
        extractor=lambda options: lenet.LeNetExtractor(options.width), smallest=lenet.SMALLEST
    ),
    "cnn1": _cnn("cnn1"),
    "cnn2": _cnn("cnn2"),
    "cnn3": _cnn("cnn3"),
    "cnn4": _cnn("cnn4"),
    "cnn5": _cnn("cnn5"),
    "fedavg_cnn": Architecture(
        extractor=lambda options: cnn.FedAvgCnnExtractor(options.width), smallest=cnn.SMALLEST
    ),
    "resnet8": _resnet(blocks=1),
    "resnet20": _resnet(blocks=3),
    "cnn1d": Architecture(
        extractor=lambda options: cnn1d.Cnn1dExtractor(options.width),
        input_kind="sequence",
        smallest=cnn1d.SMALLEST,
    ),
}


def build_model(
    name: str,
    *,
    input_shape: tuple[int, ...],
    n_classes: int,
    width: float | None = None,
    hidden: tuple[int, ...] | None = None,
    norm: NormKind | None = None,
) -> Model:
    """A model of an architecture, for one input shape and number of classes.

    Args:
        name: a key of `MODELS`.
        input_shape: shape of one example: [H, W, channels]; for `cnn1d` [T, channels]; for `mlp`
            any.
        n_classes: number of classes, at least 2.
        width: ratio of the layers' sizes to those the architecture is known by; default 1.
        hidden: sizes of the layers of `mlp`; default (128,).
        norm: "group" (default) or "batch", for the ResNets.

    Returns:
        The model. Equal arguments give equal models, with equal hashes.

    Raises:
        ValueError: if the name is unknown, the architecture cannot take the input shape, or an
            option is out of range or not one of the architecture's.
    """
    if name not in MODELS:
        raise ValueError(f"name must be one of {', '.join(MODELS)}; got {name!r}")
    architecture = MODELS[name]
    given = {"width": width, "hidden": hidden, "norm": norm}
    for option, value in given.items():
        if value is not None and option not in architecture.options:
            allowed = ", ".join(architecture.options)
            raise ValueError(f"model {name!r} takes no {option} (got {value!r}), only {allowed}")
    shape = _checked_shape(name, architecture, input_shape)
    if not _is_count(n_classes) or n_classes < 2:
        raise ValueError(f"n_classes must be an integer of at least 2; got {n_classes!r}")
    options = _checked_options(width, hidden, norm)
    head = Dense(int(n_classes), architecture.head_initialiser)
    network = Network(extractor=architecture.extractor(options), head=head)
    return Model(name=name, input_shape=shape, n_classes=int(n_classes), network=network)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _checked_shape(
    name: str, architecture: Architecture, input_shape: tuple[int, ...]
) -> tuple[int, ...]:
    shape = tuple(input_shape)
    if not shape or not all(_is_count(size) for size in shape):
        raise ValueError(f"input_shape must be integers of at least 1; got {input_shape!r}")
    if architecture.input_kind == "any":
        return shape
    rank, form = {"image": (3, "[H, W, channels]"), "sequence": (2, "[T, channels]")}[
        architecture.input_kind
    ]
    if len(shape) != rank:
        raise ValueError(f"model {name!r} takes inputs {form}; got input_shape {shape}")
    if min(shape[:-1]) < architecture.smallest:
        raise ValueError(
            f"model {name!r} takes inputs {form} of at least {architecture.smallest} along each "
            f"axis but the last; got input_shape {shape}"
        )
    return shape


def _checked_options(
    width: float | None, hidden: tuple[int, ...] | None, norm: str | None
) -> Options:
    if width is None:
        width = 1.0
    if isinstance(width, bool) or not isinstance(width, int | float):
        raise ValueError(f"width must be a positive number; got {width!r}")
    if not (math.isfinite(width) and width > 0):
        raise ValueError(f"width must be a positive number; got {width!r}")
    sizes = (128,) if hidden is None else hidden
    if not isinstance(sizes, tuple | list) or not sizes or not all(map(_is_count, sizes)):
        raise ValueError(f"hidden must be one or more integers of at least 1; got {hidden!r}")
    if norm not in (None, "group", "batch"):
        raise ValueError(f"norm must be 'group' or 'batch'; got {norm!r}")
    return Options(float(width), tuple(sizes), cast(NormKind, norm or "group"))
