"""Learning from a teacher's soft labels, for ONE example.

Reference: Hinton, Vinyals, Dean 2015, "Distilling the Knowledge in a Neural Network",
arXiv:1503.02531.
"""

import chex
import jax
import jax.numpy as jnp
import optax


def kl_with_temperature(
    teacher_logits: jax.Array, student_logits: jax.Array, temperature: jax.typing.ArrayLike
) -> jax.Array:
    r"""KL(teacher || student) of the softened distributions, summed over the classes.

    .. math:: \sum_c p^T_c \log \frac{p^T_c}{q^T_c}, \quad p^T = softmax(z_t / T)

    Both distributions stay in log space, so that a class the teacher excludes gives 0, not NaN. No
    factor of temperature is applied; the gradient goes to whichever logits the caller left free.

    Args:
        teacher_logits: float [C], unsoftened.
        student_logits: float [C], unsoftened.
        temperature: scalar > 0.

    Returns:
        A scalar, at least 0 up to rounding.
    """
    chex.assert_rank([teacher_logits, student_logits], 1)
    chex.assert_equal_shape([teacher_logits, student_logits])
    return optax.losses.kl_divergence_with_log_targets(
        jax.nn.log_softmax(student_logits / temperature),
        jax.nn.log_softmax(teacher_logits / temperature),
    )


def distillation_loss(
    student_logits: jax.Array,
    label: jax.Array,
    teacher_logits: jax.Array,
    has_soft_label: jax.Array,
    *,
    temperature: jax.typing.ArrayLike,
    weight: jax.typing.ArrayLike,
) -> jax.Array:
    r"""Cross entropy to the label and KL to the teacher, weighted.

    .. math:: (1 - w m) CE(y, z_s) + w m T^2 KL(p_t^T \| p_s^T)

    where m is 1 if the example has a soft label. An example without one is learnt from its hard
    label at full weight, so with m = 0 everywhere this is plain supervised training. The factor T^2
    keeps the size of the soft gradient independent of T.

    Args:
        student_logits: float [C].
        label: int scalar.
        teacher_logits: float [C]; the caller stops the gradient into the teacher. Ignored (but must
            be finite) where `has_soft_label` is 0.
        has_soft_label: float scalar, 0 or 1.
        temperature: T > 0.
        weight: w in [0, 1].

    Returns:
        A scalar.
    """
    hard = optax.losses.softmax_cross_entropy_with_integer_labels(student_logits, label)
    soft = (
        temperature * temperature * kl_with_temperature(teacher_logits, student_logits, temperature)
    )
    share = weight * has_soft_label
    return jnp.asarray((1.0 - share) * hard + share * soft)


def masked_mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean of `values` [B] where `mask` [B] is not 0; 0 if the mask is empty."""
    chex.assert_equal_shape([values, mask])
    weight = mask.astype(values.dtype)
    return jnp.sum(values * weight) / jnp.maximum(jnp.sum(weight), 1.0)
