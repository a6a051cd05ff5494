"""A small convolutional network after LeNet-5 (LeCun et al. 1998)."""

from __future__ import annotations

import jax
from flax import linen as nn

from fedjax_kd.models.layers import Conv, Dense, scaled

SMALLEST_VALID = 12  # halved by the first pooling, an unpadded 5x5 convolution leaves 2x2 of this
SMALLEST = 4


class LeNetExtractor(nn.Module):
    """5x5 convolutions of 6 and 16 filters with ReLU and 2x2 max pooling, dense 120 and 84.

    The first convolution is padded to keep the size, the second is not, unless the image has fewer
    than 12 rows or columns. ReLU and max pooling stand where LeNet-5 has sigmoids and subsampling.
    `width` scales all four layers.
    """

    width: float = 1.0

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, mask: jax.Array | None) -> jax.Array:
        """Images [B, H, W, channels] to features [B, 84 x width]."""
        del train, mask
        second = "VALID" if min(x.shape[1:3]) >= SMALLEST_VALID else "SAME"
        x = Conv(scaled(6, self.width), (5, 5), padding="SAME", pool=(2, 2), relu=True)(x)
        x = Conv(scaled(16, self.width), (5, 5), padding=second, pool=(2, 2), relu=True)(x)
        x = x.reshape(x.shape[0], -1)
        for units in (120, 84):
            x = nn.relu(Dense(scaled(units, self.width))(x))
        return x
