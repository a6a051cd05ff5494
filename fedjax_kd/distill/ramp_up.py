"""The weight of a soft loss that grows over the rounds, while its teacher is still learning.

Reference: the shape is that of Laine and Aila 2017, "Temporal Ensembling for Semi-Supervised
Learning", arXiv:1610.02242; the code released with arXiv:2503.11151 uses it per round.
"""

import jax
import jax.numpy as jnp


def ramp_up(round_index: jax.typing.ArrayLike, ramp_rounds: jax.typing.ArrayLike) -> jax.Array:
    r"""Share of the full weight in a round.

    .. math:: e^{-5 (1 - t / R)^2} \text{ for } t < R, \quad 1 \text{ from there on}

    Args:
        round_index: t, int, any shape; rounds count from 0.
        ramp_rounds: R, of a shape that broadcasts against it; with R <= 0 there is no ramp.

    Returns:
        float32 in [e^-5, 1].
    """
    index = jnp.asarray(round_index, jnp.float32)
    length = jnp.asarray(ramp_rounds, jnp.float32)
    missing = 1.0 - index / jnp.maximum(length, 1.0)
    return jnp.where(index < length, jnp.exp(-5.0 * missing * missing), 1.0)
