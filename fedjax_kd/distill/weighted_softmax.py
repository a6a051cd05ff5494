"""Cross entropy whose softmax weighs the classes by their shares in the data, for ONE example.

Legate et al. 2023, "Re-Weighted Softmax Cross-Entropy to Control Forgetting in Federated Learning",
arXiv:2304.05260. A model that meets data without some classes forgets them, because plain cross
entropy pushes their logits down in every step. Here they drop out of the sum, and their logits get
no gradient at all. It is a loss to train with; predictions are the arg max of the plain logits.
"""

import chex
import jax
import jax.numpy as jnp

_ABSENT = -1e9  # instead of log 0; next to it every finite logit vanishes in float32


def class_shares(labels: jax.Array, mask: jax.Array, n_classes: int) -> jax.Array:
    """Which part of the examples each class makes up.

    Args:
        labels: int [n].
        mask: bool [n], the examples that count.
        n_classes: C, static.

    Returns:
        float32 [C], sum 1; zeros if the mask is empty.
    """
    chex.assert_rank([labels, mask], 1)
    chex.assert_equal_shape([labels, mask])
    counted = mask.astype(jnp.float32)
    totals = jnp.zeros(n_classes, jnp.float32).at[labels].add(counted)
    return totals / jnp.maximum(jnp.sum(counted), 1.0)


def weighted_softmax_cross_entropy(
    logits: jax.Array, label: jax.typing.ArrayLike, shares: jax.Array
) -> jax.Array:
    r"""Cross entropy to the label under the softmax weighted by the classes' shares.

    .. math:: -\log \beta_y - z_y + \log \sum_c \beta_c e^{z_c}

    The logit of a class with share 0 gets gradient exactly 0. With equal shares it is plain cross
    entropy. The first term, which the loss in the paper's text leaves out and its code has, is
    constant in z: it makes the loss that of a distribution, at least 0.

    Args:
        logits: float [C], z.
        label: int scalar, y, of a class with a share. The loss of any other label stays finite but
            means nothing: mask it.
        shares: float [C], beta >= 0, see `class_shares`; no gradient is meant to reach them.

    Returns:
        A scalar.
    """
    chex.assert_rank([logits, shares], 1)
    chex.assert_equal_shape([logits, shares])
    present = shares > 0
    log_shares = jnp.where(present, jnp.log(jnp.where(present, shares, 1.0)), _ABSENT)
    weighted = logits + log_shares
    return jax.nn.logsumexp(weighted) - weighted[label]
