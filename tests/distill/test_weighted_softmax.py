"""Re-weighted softmax cross entropy: by hand, and what classes without a share get."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fedjax_kd.distill.weighted_softmax import class_shares, weighted_softmax_cross_entropy

LOGITS = jnp.asarray([0.3, -1.2, 2.0, 0.7])


def test_value_by_hand():
    shares = np.array([0.5, 0.25, 0.0, 0.25])
    weights = shares * np.exp(np.asarray(LOGITS, np.float64))
    want = -np.log(weights[3] / weights.sum())
    got = weighted_softmax_cross_entropy(LOGITS, 3, jnp.asarray(shares, jnp.float32))
    np.testing.assert_allclose(got, want, rtol=1e-6)


def test_gradient_is_that_of_the_loss_as_the_paper_writes_it():
    """-z_y + log sum_c beta_c e^{z_c}, without the constant."""
    shares = jnp.asarray([0.5, 0.25, 0.05, 0.2])

    def written(z):
        return -z[1] + jnp.log(jnp.sum(shares * jnp.exp(z)))

    got = jax.grad(weighted_softmax_cross_entropy)(LOGITS, 1, shares)
    np.testing.assert_allclose(got, jax.grad(written)(LOGITS), rtol=1e-5, atol=1e-7)


def test_absent_classes_get_no_gradient_at_all():
    shares = jnp.asarray([0.75, 0.0, 0.0, 0.25])
    gradient = np.asarray(jax.grad(weighted_softmax_cross_entropy)(100 * LOGITS, 0, shares))
    assert (gradient[[1, 2]] == 0).all()
    assert (gradient[[0, 3]] != 0).all()
    assert np.isfinite(gradient).all()


def test_equal_shares_are_plain_cross_entropy():
    plain = optax.losses.softmax_cross_entropy_with_integer_labels
    shares = jnp.full(4, 0.25)
    value, gradient = jax.value_and_grad(weighted_softmax_cross_entropy)(LOGITS, 2, shares)
    want, want_gradient = jax.value_and_grad(plain)(LOGITS, 2)
    np.testing.assert_allclose(value, want, rtol=1e-6)
    np.testing.assert_allclose(gradient, want_gradient, rtol=1e-6, atol=1e-7)


def test_shares_count_masked_labels_only_where_the_mask_says_so():
    labels = jnp.asarray([2, 0, 2, 1, 1], jnp.int32)
    mask = jnp.asarray([True, True, True, False, True])
    np.testing.assert_array_equal(class_shares(labels, mask, 4), [0.25, 0.25, 0.5, 0])
    np.testing.assert_array_equal(class_shares(labels, jnp.zeros(5, bool), 4), np.zeros(4))


def test_labels_and_shares_out_of_the_data_stay_finite():
    """Padding: the loss is masked, and must not turn a masked sum into NaN."""
    for shares in (jnp.asarray([1.0, 0, 0, 0]), jnp.zeros(4)):
        value, gradient = jax.value_and_grad(weighted_softmax_cross_entropy)(LOGITS, 3, shares)
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()
