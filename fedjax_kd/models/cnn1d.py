"""A convolutional network over time, for windows of sensor readings."""

from __future__ import annotations

import jax
from flax import linen as nn

from fedjax_kd import kernels
from fedjax_kd.models.layers import Conv, Dense, scaled

SMALLEST = 4


class Cnn1dExtractor(nn.Module):
    """Convolutions over 5 steps of 32, 64 and 64 filters, averaged over time, then dense 128.

    The first two are followed by max pooling over 2 steps, all by ReLU. The sequence [B, T, F] is
    convolved as an image of one row. `width` scales all four layers. The architecture is ours.
    """

    width: float = 1.0

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, mask: jax.Array | None) -> jax.Array:
        """Sequences [B, T, channels] to features [B, 128 x width]."""
        del train, mask
        x = x[:, None, :, :]
        for filters, pool in ((32, (1, 2)), (64, (1, 2)), (64, None)):
            x = Conv(scaled(filters, self.width), (1, 5), pool=pool, relu=True)(x)
        x = kernels.global_average_pool(x)
        return nn.relu(Dense(scaled(128, self.width))(x))
