"""Two convolutions and some dense layers: the five CNNs of pFedAFM, and the CNN of FedAvg's code.

pFedAFM is Yi et al. 2024, arXiv:2404.17847; its networks differ in two layer sizes.
"""

from __future__ import annotations

from typing import Literal

import jax
from flax import linen as nn

from fedjax_kd.models.layers import Conv, Dense, scaled

# Filters of the second convolution and units of the first dense layer.
CNN_SIZES: dict[str, tuple[int, int]] = {
    "cnn1": (32, 2000),
    "cnn2": (16, 2000),
    "cnn3": (32, 1000),
    "cnn4": (32, 800),
    "cnn5": (32, 500),
}
FEDAVG_FILTERS, FEDAVG_FEATURES = (32, 64), 512
FEATURES = 500  # the same for all five, so that they can share a header or be mixed
SMALLEST_VALID = 16  # two unpadded 5x5 convolutions with pooling leave one pixel of this
SMALLEST = 4


class CnnExtractor(nn.Module):
    """Two 5x5 convolutions with ReLU and 2x2 max pooling, then two dense layers with ReLU.

    `width` scales both convolutions and the first dense layer; there are always 500 features.

    Deviation: the source's convolutions are unpadded, which takes images of at least 16x16. On
    smaller ones (such as 8x8 digits) both convolutions are padded to keep the size.
    """

    filters: int
    units: int
    width: float = 1.0

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, mask: jax.Array | None) -> jax.Array:
        """Images [B, H, W, channels] to features [B, 500]."""
        del train, mask
        padding = _padding(x)
        for filters in (16, self.filters):
            filters = scaled(filters, self.width)
            x = Conv(filters, (5, 5), padding=padding, pool=(2, 2), relu=True)(x)
        x = x.reshape(x.shape[0], -1)
        x = nn.relu(Dense(scaled(self.units, self.width))(x))
        return nn.relu(Dense(FEATURES)(x))


class FedAvgCnnExtractor(nn.Module):
    """Two 5x5 convolutions (32, 64) with ReLU and 2x2 max pooling, then a dense layer with ReLU.

    The network that PFLlib and HtFLlib call FedAvgCNN (Zhang et al. 2023, arXiv:2312.04992), after
    McMahan et al. 2017, arXiv:1602.05629, whose convolutions are padded. With a dense head it has
    582,026 parameters for 28x28x1 and 10 classes, 878,538 for 32x32x3.

    `width` scales both convolutions; there are always 512 features.

    Deviation: on images smaller than 16x16 (such as 8x8 digits) both convolutions are padded to
    keep the size; the source takes no such images.
    """

    width: float = 1.0

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, mask: jax.Array | None) -> jax.Array:
        """Images [B, H, W, channels] to features [B, 512]."""
        del train, mask
        padding = _padding(x)
        for filters in FEDAVG_FILTERS:
            filters = scaled(filters, self.width)
            x = Conv(filters, (5, 5), padding=padding, pool=(2, 2), relu=True)(x)
        return nn.relu(Dense(FEDAVG_FEATURES)(x.reshape(x.shape[0], -1)))


def _padding(x: jax.Array) -> Literal["SAME", "VALID"]:
    return "VALID" if min(x.shape[1:3]) >= SMALLEST_VALID else "SAME"
