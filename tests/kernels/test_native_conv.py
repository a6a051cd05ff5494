"""The native convolution against the definition in double precision, and against itself.

The bound: sums of up to n = 9 * 64 or, in the kernel's gradient, 2 * 32 * 32 products, in single
precision (eps = 6e-8), err by about sqrt(n) * eps ~ 3e-6 of their typical size; the largest value,
to which errors are related, is a few times that.
"""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P
from native_cases import CONVOLUTIONS, SAME3, arrays, oracle, relative_error

from fedjax_kd.kernels import conv2d, using

BOUND = 3e-6


@pytest.fixture(autouse=True)
def native_form(native):
    with using("native"):
        yield


def three(x, w, dy, stride, pads):
    """The value and both gradients by the kernel."""
    y, pull = jax.vjp(lambda x, w: conv2d(x, w, stride=stride, padding=pads), x, w)
    return y, *pull(dy)


def assert_as_oracle(images, kernel, stride, pads, seed=0):
    x, w, dy = arrays(images, kernel, stride, pads, seed)
    got = three(jnp.asarray(x), jnp.asarray(w), jnp.asarray(dy), stride, pads)
    for name, a, b in zip(("y", "dx", "dw"), got, oracle(x, w, dy, stride, pads), strict=True):
        assert relative_error(a, b) < BOUND, name


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_value_and_gradients_are_those_of_the_definition(case):
    assert_as_oracle(*case)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    batch=st.integers(1, 3),
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    channels=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    window=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    pads=st.tuples(*[st.tuples(st.integers(0, 4), st.integers(0, 4))] * 2),
    seed=st.integers(0, 100),
)
def test_any_shape_is_right(batch, size, channels, window, stride, pads, seed):
    window = tuple(min(w, n + sum(p)) for w, n, p in zip(window, size, pads, strict=True))
    assert_as_oracle((batch, *size, channels[0]), (*window, *channels), stride, pads, seed)


@pytest.mark.parametrize("case", CONVOLUTIONS[:3], ids=str)
def test_both_forms_agree_in_a_compiled_program(case):
    x, w, dy = map(jnp.asarray, arrays(*case))
    forms = []
    for form in ("native", "canonical"):
        with using(form):
            forms.append(jax.jit(partial(three, stride=case[2], pads=case[3]))(x, w, dy))
    for a, b in zip(*forms, strict=True):
        assert relative_error(a, b) < 2 * BOUND


def test_the_program_calls_the_native_kernels_and_drops_the_first_gradient():
    x, w, dy = map(jnp.asarray, arrays((2, 6, 6, 3), (3, 3, 3, 8), (1, 1), SAME3))

    def kernel_gradient(x, w):
        return jax.grad(lambda w: jnp.sum(conv2d(x, w) * dy))(w)

    text = jax.jit(kernel_gradient).lower(x, w).compile().as_text() or ""
    assert "fedjax_kd_conv_kernel_gradient" in text
    assert "fedjax_kd_conv_input_gradient" not in text
    assert " convolution(" not in text


@pytest.mark.parametrize("outputs", [6, 16])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_a_number_goes_through(value, outputs):
    """And never to another image or row; of few channels, some neighbouring pixels may suffer."""
    x, w, dy = arrays((2, 9, 9, 4), (3, 3, 4, outputs), (1, 1), SAME3)
    x[1, 4, 5, 2] = value
    dy[0, 3, 3, 1] = value
    y, dx, dw = three(jnp.asarray(x), jnp.asarray(w), jnp.asarray(dy), (1, 1), SAME3)
    for found, (image, row, column) in ((y, (1, 4, 5)), (dx, (0, 3, 3))):
        bad = ~np.isfinite(found)
        assert bad[image, row - 1 : row + 2, column - 1 : column + 2].all()
        reach = 1 if found.shape[3] >= 16 else 1 + 16 // found.shape[3]
        bad[image, row - 1 : row + 2, max(0, column - reach) : column + reach + 1] = False
        assert not bad.any()
    bad = ~np.isfinite(dw)
    assert bad[:, :, 2, :].all()
    assert bad[:, :, :, 1].all()
    assert not np.delete(np.delete(bad, 2, axis=2), 1, axis=3).any()


def test_a_weight_that_is_not_a_number_spoils_its_output_channel_only():
    x, w, _ = arrays((2, 9, 9, 4), (3, 3, 4, 6), (1, 1), SAME3)
    w[1, 1, 0, 2] = np.nan
    y = conv2d(jnp.asarray(x), jnp.asarray(w))
    assert np.isnan(y[..., 2]).all()
    assert np.isfinite(np.delete(y, 2, axis=-1)).all()


def test_loading_the_library_leaves_small_numbers_as_they_are():
    """A library that is linked with -ffast-math makes them zero in the whole process."""
    conv2d(jnp.ones((1, 3, 3, 1)), jnp.ones((3, 3, 1, 1)))
    assert np.float32(1e-40) * np.float32(0.5) > 0


def test_concurrent_calls_give_the_bits_of_one_alone():
    """Different shapes at the same time, so that scratch memory that is shared would show."""
    programs = []
    for case in CONVOLUTIONS:
        x, w, dy = map(jnp.asarray, arrays(*case))
        program = jax.jit(partial(three, stride=case[2], pads=case[3])).lower(x, w, dy).compile()
        programs.append((program, (x, w, dy)))
    alone = [jax.tree.map(np.asarray, program(*inputs)) for program, inputs in programs]
    with ThreadPoolExecutor(8) as pool:
        rounds = [[pool.submit(p, *inputs) for p, inputs in programs] for _ in range(10)]
        for futures in rounds:
            for future, expected in zip(futures, alone, strict=True):
                for a, b in zip(future.result(), expected, strict=True):
                    np.testing.assert_array_equal(a, b)


CLIENTS = 4


def client_arrays():
    rng = np.random.default_rng(1)
    x = rng.standard_normal((CLIENTS, 2, 6, 6, 3), np.float32)
    w = rng.standard_normal((CLIENTS, 3, 3, 3, 5), np.float32)
    return x, w


def gradient_step(x, w):
    dw, dx = jax.grad(lambda w, x: jnp.sum(jnp.sin(conv2d(x, w))), argnums=(0, 1))(w, x)
    return dw + jnp.sum(dx)


def one_by_one(x, w):
    step = jax.jit(gradient_step)
    return np.stack([step(a, b) for a, b in zip(x, w, strict=True)])


def in_fori(x, w):
    return lax.fori_loop(0, CLIENTS, lambda k, out: out.at[k].set(gradient_step(x[k], out[k])), w)


@pytest.mark.parametrize(
    "loop",
    [
        jax.vmap(gradient_step),
        in_fori,
        lambda x, w: lax.scan(lambda c, xw: (c, gradient_step(*xw)), 0, (x, w))[1],
        lambda x, w: lax.map(lambda xw: jax.checkpoint(gradient_step)(*xw), (x, w)),
    ],
    ids=["vmap", "fori_loop", "scan", "map"],
)
def test_clients_in_a_loop_are_clients_one_by_one(loop):
    x, w = client_arrays()
    got = jax.jit(loop, donate_argnums=1)(jnp.asarray(x), jnp.asarray(w))
    np.testing.assert_allclose(got, one_by_one(x, w), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("check_vma", [False, True])
def test_clients_sharded_over_two_devices_are_clients_one_by_one(check_vma):
    x, w = client_arrays()
    mesh = jax.make_mesh((2,), ("clients",), axis_types=(AxisType.Auto,))
    sharded = jax.shard_map(
        lambda x, w: lax.map(lambda xw: gradient_step(*xw), (x, w)),
        mesh=mesh,
        in_specs=(P("clients"), P("clients")),
        out_specs=P("clients"),
        check_vma=check_vma,
    )
    got = jax.jit(sharded)(jnp.asarray(x), jnp.asarray(w))
    np.testing.assert_allclose(got, one_by_one(x, w), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("shape", [(0, 6, 6, 3), (2, 6, 6, 3)])
def test_what_the_native_kernel_does_not_take_is_canonical(shape):
    """No examples, or half precision, even where `native` is asked for."""
    dtype = jnp.float32 if shape[0] == 0 else jnp.bfloat16
    y = conv2d(jnp.ones(shape, dtype), jnp.ones((3, 3, 3, 2), dtype))
    assert y.shape == (shape[0], 6, 6, 2)
    assert y.dtype == dtype
