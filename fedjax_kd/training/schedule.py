"""Learning rates that fall after some rounds, for every optimiser inside a method's numbers."""

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from fedjax_kd.training.optimiser import Rates


class Drop(NamedTuple):
    """The learning rate is multiplied by `factor` from each of these rounds on; static.

    Attributes:
        rounds: round numbers from 0, ascending; none for a constant rate.
        factor: > 0.
    """

    rounds: tuple[int, ...] = ()
    factor: float = 0.1


def dropped(hparams: Any, drop: Drop, index: jax.Array) -> Any:
    """The numbers of one round.

    Args:
        hparams: a method's hyper-parameters; every `Rates` in it is changed, nothing else.
        drop: when, and by how much.
        index: int32 scalar, the round.

    Returns:
        The same pytree.
    """
    if not drop.rounds:
        return hparams
    passed = jnp.sum(index >= jnp.asarray(drop.rounds, jnp.int32), dtype=jnp.int32)
    factor = jnp.float32(drop.factor) ** passed.astype(jnp.float32)

    def change(leaf):
        if isinstance(leaf, Rates):
            return replace(leaf, learning_rate=leaf.learning_rate * factor)
        return leaf

    return jax.tree.map(change, hparams, is_leaf=lambda leaf: isinstance(leaf, Rates))
