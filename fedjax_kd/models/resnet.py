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

from collections.abc import Callable

import jax
from flax import linen as nn

from fedjax_kd import kernels
from fedjax_kd.models.layers import (
    Conv,
    Initialiser,
    Norm,
    NormKind,
    group_count,
    kernel_bound,
    scaled,
    uniform_parameter,
)

STAGE_FILTERS = (16, 32, 64)
INITIALISER: Initialiser = "glorot_uniform"
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
        shortcut = x
        y = _layer(self.norm, 0, self.filters, (3, 3), stride)(x, train, mask)
        if self.project:
            shortcut = _layer(self.norm, 2, self.filters, (1, 1), stride, relu=False)(
                x, train, mask
            )
        last = _layer(self.norm, 1, self.filters, (3, 3), scale_init=0.0)
        return last(y, train, mask, shortcut)


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
        x = _layer(self.norm, 0, 16, (3, 3))(x, train, mask)
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


Layer = Callable[..., jax.Array]


def _layer(
    norm: NormKind,
    number: int,
    filters: int,
    window: tuple[int, int],
    stride: tuple[int, int] = (1, 1),
    *,
    relu: bool = True,
    scale_init: float = 1.0,
) -> Layer:
    """A convolution with normalisation, an addition if there is something to add, and ReLU.

    Its parameters are those of the modules `Conv_<number>` and `Norm_<number>` of the module that
    calls this, whichever way it is computed.

    Returns:
        A function of the images, `train`, `mask` and the images to be added, by default none.
    """
    conv_name, norm_name = f"Conv_{number}", f"Norm_{number}"

    def fused(x, train, mask, added=None):
        del train, mask
        kernel = _Kernel((*window, x.shape[3], filters), name=conv_name)()
        scale, offset = _ScaleAndOffset(filters, scale_init, name=norm_name)()
        groups = group_count(filters)
        return kernels.conv_group_norm(
            x, kernel, scale, offset, groups, stride=stride, residual=added, relu=relu
        )

    def composed(x, train, mask, added=None):
        convolve = Conv(
            filters, window, stride, use_bias=False, initialiser=INITIALISER, name=conv_name
        )
        y = Norm(norm, scale_init, name=norm_name)(convolve(x), train, mask)
        y = y if added is None else y + added
        return nn.relu(y) if relu else y

    return fused if norm == "group" else composed


class _Kernel(nn.Module):
    """The parameter of `Conv` without a bias, and nothing else."""

    shape: tuple[int, int, int, int]

    @nn.compact
    def __call__(self) -> jax.Array:
        bound = kernel_bound(INITIALISER, self.shape)
        return uniform_parameter(self, "kernel", self.shape, bound)


class _ScaleAndOffset(nn.Module):
    """The parameters of `Norm`, and nothing else."""

    channels: int
    scale_init: float

    @nn.compact
    def __call__(self) -> tuple[jax.Array, jax.Array]:
        ones = nn.initializers.constant(self.scale_init)
        scale = self.param("scale", ones, (self.channels,))
        return scale, self.param("offset", nn.initializers.zeros_init(), (self.channels,))
