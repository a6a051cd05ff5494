import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedjax_kd.distill import distillation_loss, kl_with_temperature, masked_mean

logits = st.lists(st.floats(-20, 20, width=32), min_size=4, max_size=4).map(
    lambda values: jnp.asarray(values, jnp.float32)
)


def kl_by_numpy(teacher, student, temperature):
    teacher, student = np.asarray(teacher, np.float64), np.asarray(student, np.float64)
    p = np.exp(teacher / temperature) / np.exp(teacher / temperature).sum()
    q = np.exp(student / temperature) / np.exp(student / temperature).sum()
    return float(np.sum(p * np.log(p / q)))


def test_kl_equals_a_hand_computed_number():
    # p = (3/4, 1/4), q = (1/2, 1/2): KL = 3/4 log(3/2) + 1/4 log(1/2).
    teacher = jnp.log(jnp.array([3.0, 1.0]))
    student = jnp.zeros(2)
    expected = 0.75 * np.log(1.5) + 0.25 * np.log(0.5)
    np.testing.assert_allclose(kl_with_temperature(teacher, student, 1.0), expected, rtol=1e-6)


@given(logits, logits, st.sampled_from([1.0, 2.0, 3.0, 8.0]))
@settings(max_examples=60, deadline=None)
def test_kl_is_not_negative_and_agrees_with_numpy(teacher, student, temperature):
    value = float(kl_with_temperature(teacher, student, temperature))
    assert value >= -1e-5
    np.testing.assert_allclose(
        value, kl_by_numpy(teacher, student, temperature), rtol=2e-4, atol=2e-5
    )


def test_kl_of_a_teacher_that_excludes_a_class_is_finite():
    teacher = jnp.array([200.0, 0.0, -200.0])
    value, gradient = jax.value_and_grad(kl_with_temperature, argnums=1)(teacher, jnp.zeros(3), 1.0)
    assert np.isfinite(value)
    chex.assert_tree_all_finite(gradient)


def test_at_the_teacher_only_the_hard_label_has_a_gradient():
    z = jnp.array([0.3, -1.0, 2.0])
    gradient = jax.grad(distillation_loss)(
        z, jnp.int32(1), z, jnp.float32(1), temperature=3.0, weight=0.7
    )
    hard = jax.nn.softmax(z) - jax.nn.one_hot(1, 3)
    np.testing.assert_allclose(gradient, 0.3 * hard, atol=1e-6)


def test_without_a_soft_label_the_hard_label_has_full_weight():
    z, t = jnp.array([0.3, -1.0, 2.0]), jnp.array([5.0, 1.0, 1.0])
    loss = distillation_loss(z, jnp.int32(0), t, jnp.float32(0), temperature=3.0, weight=0.7)
    np.testing.assert_allclose(loss, -jax.nn.log_softmax(z)[0], rtol=1e-6)


def test_the_soft_gradient_keeps_its_size_when_the_temperature_rises():
    # For T well above the logits' spread the gradient tends to (z_s - z_t) / C (centred logits).
    student, teacher = jnp.array([0.1, -0.1, 0.0]), jnp.array([-0.2, 0.1, 0.1])

    def soft_only(z, temperature):
        return distillation_loss(
            z, jnp.int32(0), teacher, jnp.float32(1), temperature=temperature, weight=1.0
        )

    for temperature in (10.0, 50.0):
        np.testing.assert_allclose(
            jax.grad(soft_only)(student, temperature), (student - teacher) / 3.0, rtol=0.05
        )


def test_masked_mean_ignores_masked_values_and_survives_an_empty_mask():
    values = jnp.array([1.0, 2.0, 100.0])
    assert masked_mean(values, jnp.array([True, True, False])) == pytest.approx(1.5)
    assert masked_mean(values, jnp.zeros(3, bool)) == 0.0
