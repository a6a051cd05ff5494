"""Making averaged probabilities more certain, for arrays of probability vectors [..., C]."""

import jax
import jax.numpy as jnp


def sharpen_by_softmax(probabilities: jax.Array, temperature: jax.typing.ArrayLike) -> jax.Array:
    """Entropy-reduction aggregation: softmax(p / T), on the probabilities themselves.

    No T makes it the identity: the probabilities are exponentiated, so that T = 1 flattens them.

    Args:
        probabilities: float32 [..., C].
        temperature: T > 0, a scalar; 0.1 in the paper.

    Returns:
        float32 [..., C].

    Reference: Itahara et al. 2021, "Distillation-Based Semi-Supervised Federated Learning" (DS-FL),
    arXiv:2008.06180.
    """
    return jax.nn.softmax(probabilities / temperature, axis=-1)


def sharpen_by_power(probabilities: jax.Array, exponent: jax.typing.ArrayLike) -> jax.Array:
    """p^beta / sum p^beta; beta = 1 gives the probabilities back.

    Args:
        probabilities: float32 [..., C], at least 0.
        exponent: beta > 0, a scalar.

    Returns:
        float32 [..., C]; a row of zeros becomes uniform.

    Reference: Azuma et al. 2025, "Soft-Label Caching and Sharpening for Communication-Efficient
    Federated Distillation" (SCARLET), arXiv:2504.19602.
    """
    logits = jnp.where(
        probabilities > 0, jnp.log(jnp.where(probabilities > 0, probabilities, 1.0)), -jnp.inf
    )
    nowhere = jnp.all(probabilities <= 0, axis=-1, keepdims=True)
    return jax.nn.softmax(jnp.where(nowhere, 0.0, exponent * logits), axis=-1)
