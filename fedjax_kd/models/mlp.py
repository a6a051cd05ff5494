"""Multi-layer perceptrons."""

from __future__ import annotations

import jax
from flax import linen as nn

from fedjax_kd.models.layers import Dense


class MlpExtractor(nn.Module):
    """Flattens an input of any shape, then dense layers with ReLU, one per entry of `hidden`."""

    hidden: tuple[int, ...]

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, mask: jax.Array | None) -> jax.Array:
        """Inputs [B, ...] to features [B, hidden[-1]]."""
        del train, mask
        x = x.reshape(x.shape[0], -1)
        for size in self.hidden:
            x = nn.relu(Dense(size)(x))
        return x
