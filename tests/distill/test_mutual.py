"""Leave-one-out sums against the divergences written out pair by pair."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_kd.distill import kl_with_temperature
from fedjax_kd.distill.mutual import mutual_divergence, peer_share

LOGITS = jax.random.normal(jax.random.key(3), (5, 7)) * 2.0
WEIGHTS = {"alike": jnp.ones(5), "unlike": jnp.asarray([1.0, 4.0, 0.0, 0.5, 2.5])}


def sums_of(logits, weights, temperature):
    shares = jax.vmap(peer_share, in_axes=(0, 0, None))(logits, weights, temperature)
    return jax.tree.map(lambda leaf: jnp.sum(leaf, axis=0), shares)


def through_sums(own, i, logits, weights, temperature):
    everybody = logits.at[i].set(own)
    sums = sums_of(everybody, weights, temperature)
    return mutual_divergence(own, sums, weights[i], temperature)


def pair_by_pair(own, i, logits, weights, temperature):
    others = [j for j in range(len(weights)) if j != i]
    each = [weights[j] * kl_with_temperature(logits[j], own, temperature) for j in others]
    return sum(each) / sum(weights[j] for j in others)


@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_value_and_gradient_equal_the_pairwise_mean(weights, temperature):
    for i in range(5):
        given = (i, LOGITS, WEIGHTS[weights], temperature)
        value, gradient = jax.value_and_grad(through_sums)(LOGITS[i], *given)
        want, want_gradient = jax.value_and_grad(pair_by_pair)(LOGITS[i], *given)
        np.testing.assert_allclose(value, want, rtol=2e-5, atol=1e-6)
        np.testing.assert_allclose(gradient, want_gradient, rtol=2e-5, atol=1e-6)


def test_gradient_by_hand():
    """T = 1: p_i minus the mean of the others."""
    p = np.asarray(jax.nn.softmax(LOGITS))
    got = jax.grad(through_sums)(LOGITS[1], 1, LOGITS, WEIGHTS["alike"], 1.0)
    np.testing.assert_allclose(got, p[1] - p[[0, 2, 3, 4]].mean(axis=0), atol=1e-6)


def test_models_that_agree_teach_nothing():
    same = jnp.tile(LOGITS[:1], (5, 1))
    value, gradient = jax.value_and_grad(through_sums)(same[0], 0, same, WEIGHTS["alike"], 2.0)
    np.testing.assert_allclose(value, 0, atol=1e-6)
    np.testing.assert_allclose(gradient, np.zeros(7), atol=1e-6)


def test_a_model_alone_has_neither_loss_nor_gradient():
    for weights in (jnp.ones(1), jnp.asarray([3.0, 0.0])):
        logits = LOGITS[: len(weights)]
        sums = sums_of(logits, weights, 1.0)
        value, gradient = jax.value_and_grad(mutual_divergence)(logits[0], sums, weights[0], 1.0)
        assert value == 0
        assert (np.asarray(gradient) == 0).all()


def test_peers_are_fixed():
    """No gradient goes into the sums, nor through a model's own share in them."""

    def of_sums(logits):
        return mutual_divergence(LOGITS[0], sums_of(logits, WEIGHTS["alike"], 1.0), 1.0, 1.0)

    assert (np.asarray(jax.grad(of_sums)(LOGITS)) == 0).all()


def test_excluded_classes_are_no_nan():
    logits = LOGITS.at[:, 2].set(-jnp.inf)
    sums = sums_of(logits, WEIGHTS["alike"], 1.0)
    value, gradient = jax.value_and_grad(mutual_divergence)(logits[0], sums, 1.0, 1.0)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
