"""Distillation losses, each written for one example: the caller maps and averages."""

from fedjax_kd.distill.soft_labels import (
    distillation_loss as distillation_loss,
)
from fedjax_kd.distill.soft_labels import (
    kl_with_temperature as kl_with_temperature,
)
from fedjax_kd.distill.soft_labels import (
    masked_mean as masked_mean,
)
