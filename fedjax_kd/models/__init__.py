"""The architectures of students and teachers, and what each costs."""

from fedjax_kd.models.catalog import MODELS, Architecture, build_model
from fedjax_kd.models.model import Model, Stats, Variables
from fedjax_kd.models.profile import ModelProfile, forward_flops, profile

__all__ = [
    "MODELS",
    "Architecture",
    "Model",
    "ModelProfile",
    "Stats",
    "Variables",
    "build_model",
    "forward_flops",
    "profile",
]
