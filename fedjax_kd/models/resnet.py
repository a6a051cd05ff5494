"""Residual networks for small images (He et al. 2016, section 4.2), in the layout of HeteroKDFL.

The layout is that of the code released with "Enabling Weak Client Participation via On-Device
Knowledge Distillation" (arXiv:2503.11151): a 1x1 convolution with normalisation as the shortcut in
the first block of every stage, the first stage included; the second normalisation of each block
starts with scale zero, so that a block starts as its shortcut; no bias but the head's; Glorot
uniform weights; the first convolution keeps 16 filters whatever the width.

That code normalises over the batch. Group normalisation, our default, suits federated averaging:
it has no running statistics, and an example's result does not depend on its batch.
"""

from __future__ import annotations

import jax
from flax import linen as nn

from fedjax_kd import kernels
from fedjax_kd.models.layers import Conv, Norm, NormKind, scaled

STAGE_FILTERS = (16, 32, 64)
SMALLEST = 4  # two halvings leave one pixel


class Block(nn.Module):
    """Two 3x3 convolutions with normalisation, added to the shortcut; ReLU after the sum."""

    filters: int
    stride: int
    project: bool
    norm: NormKind

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, mask: jax.Array | None) -> jax.Array:
        """Images [B, H, W, channels] to [B, H / stride, W / stride, filters]."""
        stride = (self.stride, self.stride)
        y = _conv(self.filters, (3, 3), stride)(x)
        y = nn.relu(Norm(self.norm)(y, train, mask))
        y = _conv(self.filters, (3, 3))(y)
        y = Norm(self.norm, scale_init=0.0)(y, train, mask)
        if self.project:
            x = Norm(self.norm)(_conv(self.filters, (1, 1), stride)(x), train, mask)
        return nn.relu(x + y)


class ResNetExtractor(nn.Module):
    """A 3x3 convolution, three stages of `blocks` blocks, and the average over pixels.

    The stages have 16, 32 and 64 filters times `width`; the second and third halve rows and
    columns.
    """

    blocks: int
    norm: NormKind
    width: float = 1.0

    @nn.compact
    def __call__(self, x: jax.Array, train: bool, mask: jax.Array | None) -> jax.Array:
        """Images [B, H, W, channels] to features [B, 64 x width]."""
        x = nn.relu(Norm(self.norm)(_conv(16, (3, 3))(x), train, mask))
        for stage, filters in enumerate(STAGE_FILTERS):
            for block in range(self.blocks):
                first = block == 0
                x = Block(
                    filters=scaled(filters, self.width),
                    stride=2 if first and stage > 0 else 1,
                    project=first,
                    norm=self.norm,
                )(x, train, mask)
        return kernels.global_average_pool(x)


def _conv(filters: int, window: tuple[int, int], stride: tuple[int, int] = (1, 1)) -> Conv:
    return Conv(filters, window, stride=stride, use_bias=False, initialiser="glorot_uniform")
