r"""The loss of DFML's pools: labels, weighted by the classes at hand, and the other models.

.. math:: L_i = (1 - alpha) L_{sup}(z_i, y) + alpha T^2 L_{KL}(z_i)

Khalil et al. 2024, "DFML: Decentralized Federated Mutual Learning", arXiv:2402.01863.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct

from fedjax_kd.distill import masked_mean
from fedjax_kd.distill.mutual import PeerSums, mutual_divergence, peer_share
from fedjax_kd.distill.weighted_softmax import weighted_softmax_cross_entropy

Supervision = Literal["weighted_softmax", "cross_entropy"]


@struct.dataclass
class Lecture:
    """What a pool's loss needs besides the batch; of one pool, or [S, ...] of all.

    Attributes:
        alpha: float32 scalar, the weight of distillation.
        temperature: float32 scalar, T.
        shares: float32 [C], class shares of the aggregator's training examples.
    """

    alpha: jax.Array
    temperature: jax.Array
    shares: jax.Array


class PoolLoss(NamedTuple):
    """The loss in the parts that training needs.

    Attributes:
        supervised: `(logits [B, C], labels [B], mask [B], shares [C]) -> scalar`.
        answer: `(logits [B, C], weight, Lecture) -> PeerSums [B]`, as `train_pools` takes it.
        loss: `(logits, labels, mask, sums, weight, Lecture) -> scalar`, likewise.
    """

    supervised: Callable[..., jax.Array]
    answer: Callable[..., PeerSums]
    loss: Callable[..., jax.Array]


def pool_loss(supervision: Supervision) -> PoolLoss:
    """The loss with one of the two ways to learn from labels."""

    def hard(logits, labels, shares):
        if supervision == "cross_entropy":
            return optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels)
        one_example = jax.vmap(weighted_softmax_cross_entropy, in_axes=(0, 0, None))
        return one_example(logits, labels, shares)

    def supervised(logits, labels, mask, shares):
        return masked_mean(hard(logits, labels, shares), mask)

    def answer(logits, weight, lecture: Lecture) -> PeerSums:
        one_example = jax.vmap(peer_share, in_axes=(0, None, None))
        return one_example(logits, weight, lecture.temperature)

    def loss(logits, labels, mask, sums: PeerSums, weight, lecture: Lecture):
        one_example = jax.vmap(mutual_divergence, in_axes=(0, 0, None, None))
        mutual = one_example(logits, sums, weight, lecture.temperature)
        share = lecture.alpha * lecture.temperature**2
        taught = (1.0 - lecture.alpha) * hard(logits, labels, lecture.shares)
        # A masked example may have a label without a share, and a loss as large as that.
        return masked_mean(jnp.where(mask, taught + share * mutual, 0.0), mask)

    return PoolLoss(supervised, answer, loss)
