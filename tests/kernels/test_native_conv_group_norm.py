"""The fused layer against the separate kernels in their canonical form.

The bound is that of the convolution (3e-6 relative to the largest value) times the handful of
sums that follow it. The batch is small: in a large one, some value lies so near to zero that the
two forms put it on different sides of the ReLU.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P
from native_cases import relative_error

from fedjax_kd.kernels import conv_group_norm, using

BOUND = 1e-5

# images, kernel, groups, stride, residual, relu
LAYERS = [
    ((2, 32, 32, 3), (3, 3, 3, 16), 8, 1, False, True),
    ((2, 16, 16, 16), (3, 3, 16, 16), 8, 1, True, True),
    ((2, 16, 16, 16), (3, 3, 16, 32), 8, 2, False, True),
    ((2, 16, 16, 16), (1, 1, 16, 32), 8, 2, False, False),
    ((2, 8, 8, 16), (1, 1, 16, 16), 8, 1, True, False),
    ((2, 9, 7, 3), (3, 3, 3, 6), 3, 2, False, True),  # channels that fill no vector
    ((3, 5, 5, 4), (3, 3, 4, 20), 4, 1, True, True),
    ((2, 4, 4, 4), (3, 3, 4, 4), 1, 1, True, True),
    ((2, 1, 1, 4), (3, 3, 4, 8), 4, 1, True, True),  # one pixel
]


def arguments(images, kernel, stride, residual, seed=0) -> tuple[Any, ...]:
    rng = np.random.default_rng(seed)
    shape = (images[0], -(-images[1] // stride), -(-images[2] // stride), kernel[3])
    x = rng.standard_normal(images, np.float32) + 0.3
    w = rng.standard_normal(kernel, np.float32)
    scale, offset = rng.standard_normal((2, kernel[3])).astype(np.float32)
    added = rng.standard_normal(shape, np.float32) if residual else None
    return tuple(None if a is None else jnp.asarray(a) for a in (x, w, scale, offset, added))


def layer(args, groups, stride, relu):
    x, w, scale, offset, residual = args
    return conv_group_norm(
        x, w, scale, offset, groups, stride=(stride, stride), residual=residual, relu=relu
    )


def value_and_gradients(args, groups, stride, relu):
    def loss(args):
        y = layer(args, groups, stride, relu)
        return jnp.sum(jnp.sin(y)), y

    (_, y), gradients = jax.value_and_grad(loss, has_aux=True)(args)
    return y, gradients


@pytest.mark.parametrize(
    ("images", "kernel", "groups", "stride", "residual", "relu"), LAYERS, ids=str
)
def test_it_is_the_composition(native, images, kernel, groups, stride, residual, relu):
    args = arguments(images, kernel, stride, residual)
    found = {}
    for form in ("native", "canonical"):
        with using(form):
            run = jax.jit(value_and_gradients, static_argnums=(1, 2, 3))
            found[form] = run(args, groups, stride, relu)
            alone = layer(args, groups, stride, relu)  # keeps nothing for a gradient
        np.testing.assert_allclose(alone, found[form][0], rtol=1e-5, atol=1e-5)
    for a, b in zip(*map(jax.tree.leaves, found.values()), strict=True):
        assert relative_error(a, b) < BOUND


def test_an_image_of_one_value_has_no_deviation(native):
    """Then the result is the offset, and no gradient goes back to the image."""
    with using("native"):
        x, w, scale, offset, _ = arguments((2, 6, 6, 2), (1, 1, 2, 4), 1, residual=False)
        flat = jnp.ones_like(x)
        y, (dx, *_) = value_and_gradients((flat, w, scale, offset, None), 4, 1, False)
    np.testing.assert_allclose(y, jnp.broadcast_to(offset, y.shape), atol=1e-4)
    assert np.abs(dx).max() < 1e-2 / np.sqrt(1e-5)


def test_a_first_layer_has_no_gradient_of_its_images(native):
    """The same call without it: its place among the results is empty."""
    args = arguments((2, 6, 6, 3), (3, 3, 3, 8), 1, residual=False)

    def by_weights(w):
        return jnp.sum(layer((args[0], w, *args[2:]), 4, 1, True))

    def by_both(x, w):
        return jnp.sum(layer((x, w, *args[2:]), 4, 1, True))

    with using("native"):
        last = str(jax.make_jaxpr(jax.grad(by_weights))(args[1]))
        both = str(jax.make_jaxpr(jax.grad(by_both, (0, 1)))(*args[:2]))
        dw = jax.grad(by_weights)(args[1])
        np.testing.assert_array_equal(dw, jax.grad(by_both, 1)(*args[:2]))
    assert "fedjax_kd_conv_group_norm_backward" in last
    assert last.count("f32[0]") == both.count("f32[0]") + 1


@pytest.mark.parametrize("place", range(5))
def test_nan_goes_through_from_every_argument(native, place):
    args = list(arguments((2, 6, 6, 3), (3, 3, 3, 8), 1, residual=True))
    args[place] = args[place].at[(0,) * args[place].ndim].set(jnp.nan)
    with using("native"):
        y = layer(args, 4, 1, True)
    assert np.isnan(y[0]).any()
    if place in (0, 4):  # of one image only
        assert np.isfinite(y[1]).all()


def test_concurrent_calls_give_the_bits_of_one_alone(native):
    programs = []
    with using("native"):
        for images, kernel, groups, stride, residual, relu in LAYERS:
            args = arguments(images, kernel, stride, residual)
            run = jax.jit(value_and_gradients, static_argnums=(1, 2, 3))
            programs.append((run.lower(args, groups, stride, relu).compile(), args))
    alone = [jax.tree.map(np.asarray, program(args)) for program, args in programs]
    with ThreadPoolExecutor(8) as pool:
        rounds = [[pool.submit(p, args) for p, args in programs] for _ in range(10)]
        for futures in rounds:
            for future, expected in zip(futures, alone, strict=True):
                jax.tree.map(np.testing.assert_array_equal, future.result(), expected)


@pytest.mark.parametrize("check_vma", [False, True])
@pytest.mark.parametrize("residual", [False, True])
def test_clients_in_a_loop_on_two_devices(native, check_vma, residual):
    """Their images differ, their weights are shared: a gradient is the sum over the mesh."""
    x, w, scale, offset, added = arguments((4, 6, 6, 3), (3, 3, 3, 8), 1, residual=residual)
    x, added = (None if a is None else a.reshape(4, 1, *a.shape[1:]) for a in (x, added))
    mesh = jax.make_mesh((2,), ("clients",), axis_types=(AxisType.Auto,))

    def one(w, x, added):
        return jnp.sum(jnp.sin(layer((x, w, scale, offset, added), 4, 1, True)))

    def total(w, x, added):
        def body(k, sum):
            return sum + one(w, x[k], None if added is None else added[k])

        start = lax.pcast(jnp.float32(0), "clients", to="varying") if check_vma else jnp.float32(0)
        return lax.scan(lambda c, k: (body(k, c), None), start, jnp.arange(2))[0][None]

    sharded = jax.shard_map(
        total,
        mesh=mesh,
        in_specs=(P(), P("clients"), P("clients")),
        out_specs=P("clients"),
        check_vma=check_vma,
    )
    with using("native"):
        got = jax.jit(jax.grad(lambda w: jnp.sum(sharded(w, x, added))))(w)
    with using("canonical"):
        batch = jax.vmap(one, in_axes=(None, 0, 0))
        expected = jax.jit(jax.grad(lambda w: jnp.sum(batch(w, x, added))))(w)
    assert relative_error(got, expected) < BOUND


@pytest.mark.parametrize("form", ["canonical", "auto"])
def test_what_does_not_fit_is_refused(form):
    x, w, scale, offset, _ = arguments((2, 6, 6, 3), (3, 3, 3, 8), 1, residual=False)
    with using(form):
        with pytest.raises(ValueError, match="groups must divide the 8 channels; got 3"):
            conv_group_norm(x, w, scale, offset, 3)
        with pytest.raises(ValueError, match=r"residual must be \[2, 6, 6, 8\], as the result"):
            conv_group_norm(x, w, scale, offset, 4, residual=x)
        with pytest.raises(ValueError, match="takes 3 input channels, but x has 8"):
            conv_group_norm(jnp.ones((1, 4, 4, 8)), w, scale, offset, 4)
