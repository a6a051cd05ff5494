"""Sizes of the small networks, as everybody builds them; pure Python, for every interpreter."""

from __future__ import annotations

from typing import NamedTuple

FEATURES = 500
CNN_SIZES = {
    "cnn1": (32, 2000),
    "cnn2": (16, 2000),
    "cnn3": (32, 1000),
    "cnn4": (32, 800),
    "cnn5": (32, 500),
}
"""Filters of the second convolution and units of the first dense layer."""


class Convolutional(NamedTuple):
    """Two 5x5 convolutions with 2x2 max pooling and ReLU, two dense layers with ReLU, a header.

    Attributes:
        filters: of the two convolutions.
        padding: of the first convolution, pixels on every side; the second has none.
        side: rows and columns that are left of 28 after the second pooling.
        units: of the two dense layers.
    """

    filters: tuple[int, int]
    padding: int
    side: int
    units: tuple[int, int]


def convolutional(name: str, width: float) -> Convolutional:
    """The sizes of `lenet` or of `cnn1` to `cnn5`, which always have 500 features, at some width.

    Raises:
        ValueError: if the name is another one.
    """

    def scaled(size: int) -> int:
        return max(1, round(size * width))

    if name == "lenet":
        return Convolutional((scaled(6), scaled(16)), 2, 5, (scaled(120), scaled(84)))
    if name in CNN_SIZES:
        filters, units = CNN_SIZES[name]
        return Convolutional((scaled(16), scaled(filters)), 0, 4, (scaled(units), FEATURES))
    raise ValueError(f"architecture must be lenet or {', '.join(CNN_SIZES)}; got {name!r}")
