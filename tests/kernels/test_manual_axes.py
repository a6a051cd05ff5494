import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from fedjax_kd.kernels import BatchStatistics, batch_norm, conv2d, group_norm

MESH = jax.make_mesh((2,), ("clients",), axis_types=(AxisType.Auto,))


def with_kernels(x, w, scale):
    y = conv2d(x, w)
    y = group_norm(y, scale, scale, 2)
    running = BatchStatistics(jnp.zeros(4), jnp.ones(4))
    return batch_norm(y, scale, scale, running, train=True)[0]


def with_built_in_operations(x, w, scale):
    y = lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    per_channel = scale[None, None, None, :]
    for axes, epsilon in (((2, 3, 5), 1e-5), ((0, 2, 3), 1e-3)):
        split = y.reshape(2, 1, 5, 5, 2, 2)
        mean = jnp.mean(split, axes, keepdims=True)
        variance = jnp.mean((split - mean) ** 2, axes, keepdims=True)
        y = ((split - mean) * lax.rsqrt(variance + epsilon)).reshape(y.shape)
        y = y * per_channel + per_channel
    return y


@pytest.mark.parametrize("copies", ["replicated", "varying"])
def test_gradients_over_a_mesh_are_those_of_built_in_operations(copies):
    """Of replicated weights, both sum the gradient over the mesh; of varying ones, neither does."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 5, 5, 2), np.float32)
    w = rng.standard_normal((3, 3, 2, 4), np.float32)
    scale = np.linspace(0.5, 1.5, 4, dtype=np.float32)

    def shard(x, w, scale):
        if copies == "varying":
            w, scale = lax.pcast((w, scale), ("clients",), to="varying")

        def gradient(network):
            def loss(w, scale):
                return jnp.sum(jnp.sin(network(x, w, scale)))

            return jax.tree.map(lambda g: g[None], jax.grad(loss, argnums=(0, 1))(w, scale))

        return gradient(with_kernels), gradient(with_built_in_operations)

    out = P("clients") if copies == "varying" else P()
    sharded = jax.shard_map(shard, mesh=MESH, in_specs=(P("clients"), P(), P()), out_specs=out)
    ours, expected = jax.jit(sharded)(x, w, scale)
    chex.assert_trees_all_close(ours, expected, atol=2e-4, rtol=1e-3)
