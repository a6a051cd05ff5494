"""Prediction by the nearest class vector: a view of methods whose servers hold mean features."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import jax.numpy as jnp

from fedjax_kd.exchange import class_table
from fedjax_kd.methods.architectures import groups_of, rows_of
from fedjax_kd.methods.contract import Federation, Predictor
from fedjax_kd.models import Model


def nearest_prototypes(
    models: Sequence[Model],
    stacks: Sequence[Any],
    servers: class_table.ClassTable,
    federation: Federation,
) -> tuple[Predictor, ...]:
    """Every client predicts the class whose mean at its server is nearest to its own features.

    Args:
        models: one per group of the federation.
        stacks: variables [K_g, ...], one per group.
        servers: tables [S] of vectors of the features' size; a class without a vector is never
            predicted while another one has one.
        federation: K clients at S points.
    """
    made = []
    for model, members, stack in zip(models, groups_of(models, federation), stacks, strict=True):
        held = {"model": stack, "table": rows_of(servers, federation.people.point[members])}
        row = jnp.arange(len(members), dtype=jnp.int32)
        made.append(Predictor(held, row, members, _nearest(model)))
    return tuple(made)


@lru_cache(maxsize=64)  # one function a model, so that programs which hold it compare equal
def _nearest(model: Model):
    """`(variables, inputs) -> [B, C]`: minus the squared distance to each class's prototype."""

    def logits(variables, inputs):
        features, _ = model.features(variables["model"], inputs, train=False)
        prototypes, present = class_table.means(variables["table"])
        squared = jnp.sum((features[:, None, :] - prototypes[None, :, :]) ** 2, axis=-1)
        return jnp.where(present[None, :], -squared, -jnp.inf)

    return logits
