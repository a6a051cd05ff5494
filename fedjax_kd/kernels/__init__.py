"""The numeric kernels of the models: convolution, pooling and normalisation with own gradients."""

from fedjax_kd.kernels.batch_norm import BatchStatistics, batch_norm
from fedjax_kd.kernels.conv import conv2d
from fedjax_kd.kernels.group_norm import group_norm
from fedjax_kd.kernels.pool import global_average_pool, max_pool

__all__ = [
    "BatchStatistics",
    "batch_norm",
    "conv2d",
    "global_average_pool",
    "group_norm",
    "max_pool",
]
