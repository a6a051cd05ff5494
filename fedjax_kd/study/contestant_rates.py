"""The traced rates of a contestant's training."""

from dataclasses import replace
from typing import Any

import jax.numpy as jnp

from fedjax_kd.methods.contract import Method
from fedjax_kd.study.settings import Training
from fedjax_kd.study.settings_rounds import StepTraining
from fedjax_kd.study.studies import RoundsStudy
from fedjax_kd.training import Rates, rates

Built = tuple[Method, Any]
"""A method and its hyper-parameters."""


def training_rates(training: Training | StepTraining) -> Rates:
    """The traced part of a `training` setting."""
    return rates(
        training.learning_rate, training.momentum, training.weight_decay, training.gradient_clip
    )


def rates_of(settings: RoundsStudy, name: str) -> Rates:
    """The contestant's rates: `training`, with a learning rate of its own where it has one."""
    values = training_rates(settings.training)
    own = settings.learning_rates.get(name)  # pyright: ignore[reportCallIssue, reportArgumentType]
    return values if own is None else replace(values, learning_rate=jnp.float32(own))
