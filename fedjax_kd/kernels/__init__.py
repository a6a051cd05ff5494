"""The numeric kernels of the models: convolution, pooling and normalisation with own gradients."""

from fedjax_kd.kernels.batch_norm import BatchStatistics, batch_norm
from fedjax_kd.kernels.conv import conv2d
from fedjax_kd.kernels.conv_group_norm import conv_group_norm
from fedjax_kd.kernels.dense import dense, dense_sgd
from fedjax_kd.kernels.group_norm import group_norm
from fedjax_kd.kernels.in_place import (
    InPlace,
    descend,
    mark_in_place,
    unmark,
    updated_in_place,
)
from fedjax_kd.kernels.native import NativeStatus, native_status, using
from fedjax_kd.kernels.pool import global_average_pool, max_pool, pool_bias_relu

__all__ = [
    "BatchStatistics",
    "InPlace",
    "NativeStatus",
    "batch_norm",
    "conv2d",
    "conv_group_norm",
    "dense",
    "dense_sgd",
    "descend",
    "global_average_pool",
    "group_norm",
    "mark_in_place",
    "max_pool",
    "native_status",
    "pool_bias_relu",
    "unmark",
    "updated_in_place",
    "using",
]
