r"""Learning from all other models of a pool at the cost of learning from one, for ONE example.

Deep mutual learning (Zhang et al. 2018, arXiv:1706.00384) draws each model to the others' outputs:

.. math:: L_i = \sum_{j \neq i} w_j KL(p_j \| p_i) / \sum_{j \neq i} w_j, \quad p = softmax(z / T)

Written out, that is M (M - 1) divergences. But the peers enter through two sums only, of their
probabilities and of their negative entropies, from which each model takes out its own share:

.. math:: L_i = \bar h_{-i} - \sum_c \bar p_{-i,c} \log p_{i,c},
    \quad h_j = \sum_c p_{j,c} \log p_{j,c}
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp


class PeerSums(NamedTuple):
    """What the models of a pool say about an example, weighted and added up, or one model's share.

    Attributes:
        probabilities: float [C].
        negative_entropy: scalar.
        weight: scalar.
    """

    probabilities: jax.Array
    negative_entropy: jax.Array
    weight: jax.Array


def peer_share(
    logits: jax.Array, weight: jax.typing.ArrayLike, temperature: jax.typing.ArrayLike
) -> PeerSums:
    """One model's share in the sums over its pool; shares add up leaf by leaf.

    Args:
        logits: float [C], unsoftened.
        weight: scalar w >= 0 of the model.
        temperature: T > 0.

    Returns:
        Its share. No gradient flows through it: peers are fixed targets.
    """
    chex.assert_rank(logits, 1)
    log_p = jax.nn.log_softmax(jax.lax.stop_gradient(logits) / temperature)
    p = jnp.exp(log_p)
    certain = jnp.where(p > 0, p * log_p, 0.0)  # an excluded class (logit -inf) gives 0, not NaN
    scale = jnp.asarray(weight, logits.dtype)
    return PeerSums(scale * p, scale * jnp.sum(certain), scale)


def mutual_divergence(
    logits: jax.Array,
    sums: PeerSums,
    weight: jax.typing.ArrayLike,
    temperature: jax.typing.ArrayLike,
) -> jax.Array:
    """Weighted mean over the peers of KL(peer || model), softened, summed over the classes.

    No factor of temperature is applied. The gradient goes to `logits` alone.

    Args:
        logits: float [C], the model's own.
        sums: over the whole pool, the model itself included.
        weight: what the model itself entered `sums` with.
        temperature: T > 0.

    Returns:
        A scalar, at least 0 up to rounding; 0 for a model that meets nobody.
    """
    own = peer_share(logits, weight, temperature)
    others = jax.tree.map(jnp.subtract, jax.lax.stop_gradient(sums), own)
    anybody = others.weight > 0
    scale = jnp.where(anybody, others.weight, 1.0)
    # A sum minus one of its parts may round below zero.
    target = jnp.maximum(others.probabilities, 0.0) / scale
    log_p = jax.nn.log_softmax(logits / temperature)
    crossed = jnp.sum(jnp.where(target > 0, target * log_p, 0.0))
    return jnp.where(anybody, others.negative_entropy / scale - crossed, 0.0)
