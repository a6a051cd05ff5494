import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_kd.distill.ramp_up import ramp_up


@pytest.mark.parametrize(
    ("index", "weight"), [(0, 0.0034), (150, 0.143), (250, 0.435), (300, 0.5), (399, 0.5)]
)
def test_the_weights_of_the_papers_code(index, weight):
    assert float(0.5 * ramp_up(index, 300)) == pytest.approx(weight, rel=0.01)


def test_the_formula_and_its_ends():
    t = np.arange(0, 12)
    want = np.where(t < 7, np.exp(-5 * (1 - t / 7) ** 2), 1.0)
    got = ramp_up(jnp.asarray(t, jnp.int32), jnp.float32(7))
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, want, rtol=1e-6)
    assert (np.diff(want[:8]) > 0).all()


def test_without_a_ramp_the_weight_is_whole_from_the_start():
    np.testing.assert_array_equal(ramp_up(jnp.int32(0), jnp.zeros(2)), [1.0, 1.0])


def test_every_study_point_may_have_a_ramp_of_its_own():
    got = ramp_up(jnp.int32(2), jnp.array([4.0, 2.0]))
    np.testing.assert_allclose(got, [np.exp(-1.25), 1.0], rtol=1e-6)
