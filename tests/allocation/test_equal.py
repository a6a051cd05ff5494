import jax.numpy as jnp
import numpy as np

from fedjax_kd.allocation.equal import equal_shares


def test_loaded_users_share_equally():
    np.testing.assert_allclose(equal_shares(jnp.asarray([3.0, 0.0, 1e9])), [0.5, 0.0, 0.5])


def test_nobody_loaded():
    np.testing.assert_array_equal(equal_shares(jnp.zeros(3)), np.zeros(3))
