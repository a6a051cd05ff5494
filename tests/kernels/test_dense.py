import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from fedjax_kd.kernels import dense, dense_sgd, native_status, using
from fedjax_kd.kernels.dense import sgd_in_place

RATES = (jnp.float32(0.1), jnp.float32(0.9))


@pytest.fixture(params=["canonical", "native"], autouse=True)
def form(request):
    if request.param == "native" and not native_status().available:
        pytest.skip(native_status().reason)
    with using(request.param):
        yield request.param


def case(batch, features, outputs, seed=0):
    rng = np.random.default_rng(seed)
    shapes = (batch, features), (features, outputs), (batch, outputs)
    return tuple(jnp.asarray(rng.standard_normal(shape, np.float32)) for shape in shapes)


def pulled(f, *args):
    """Value, and a function from its cotangent to those of the arguments."""
    value, pull = jax.vjp(f, *args)
    return value, pull


def test_value_and_gradients_by_hand():
    x = jnp.array([[1.0, 2.0], [3.0, 4.0]])
    w = jnp.array([[1.0, 0.0, -1.0], [2.0, 1.0, 0.0]])
    dy = jnp.array([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
    y, pull = pulled(dense, x, w)
    np.testing.assert_array_equal(y, [[5, 2, -1], [11, 4, -3]])
    dx, dw = pull(dy)
    np.testing.assert_array_equal(dx, [[1, 2], [-1, 1]])
    np.testing.assert_array_equal(dw, [[1, 3, 3], [2, 4, 4]])


def test_a_step_of_descent_by_hand():
    x = jnp.array([[1.0, 2.0], [3.0, 4.0]])
    w = jnp.array([[1.0], [2.0]])
    y, pull = pulled(lambda x, w: dense_sgd(x, w, jnp.float32(0.5), jnp.float32(0.75)), x, w)
    np.testing.assert_array_equal(y, [[5], [11]])
    dx, new_w = pull(jnp.array([[1.0], [-1.0]]))
    np.testing.assert_array_equal(dx, [[1, 2], [-1, -2]])
    np.testing.assert_array_equal(new_w, [[0.75 + 1.0], [1.5 + 1.0]])


@pytest.mark.parametrize("shape", [(4, 7, 5), (10, 33, 20)])
def test_canonical_and_native_agree_with_autodiff_of_the_product(shape):
    x, w, dy = case(*shape)
    y, pull = pulled(dense, x, w)
    expected, expected_pull = pulled(lax.dot, x, w)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
    for ours, plain in zip(pull(dy), expected_pull(dy), strict=True):
        np.testing.assert_allclose(ours, plain, rtol=1e-5, atol=1e-5)


def test_weight_and_rates_may_be_traced_and_rates_have_no_gradient():
    x, w, dy = case(5, 6, 7)

    @jax.jit
    def gradients(w, rate, decay):
        return jax.grad(lambda *a: jnp.sum(dense_sgd(x, *a) * dy), argnums=(0, 1, 2))(
            w, rate, decay
        )

    new_w, *of_rates = gradients(w, *RATES)
    expected = 0.9 * w - 0.1 * (x.T @ dy)
    np.testing.assert_allclose(new_w, expected, rtol=1e-5, atol=1e-6)
    assert [float(g) for g in of_rates] == [0.0, 0.0]


def test_an_output_that_is_not_used_still_decays_the_weight():
    x, w, _ = case(5, 6, 7)

    def loss(w):
        y = dense_sgd(x, w, *RATES)
        return jnp.sum(y) * jnp.float32(0)

    np.testing.assert_allclose(jax.grad(loss)(w), 0.9 * w, rtol=1e-6)


@pytest.mark.parametrize("x_has_gradient", [False, True])
def test_the_input_gradient_is_made_only_where_it_is_wanted(x_has_gradient):
    x, w, dy = case(8, 16, 24)

    def loss(x, w):
        return jnp.sum(dense_sgd(x, w, *RATES) * dy)

    argnums = (0, 1) if x_has_gradient else 1
    traced = jax.make_jaxpr(lambda x, w: jax.grad(loss, argnums)(x, w))(x, w)
    updates = [e for e in traced.jaxpr.eqns if e.params.get("name") == sgd_in_place.__name__]
    assert [len(e.outvars) for e in updates] == [2 if x_has_gradient else 1]


def test_the_plain_gradient_of_the_input_is_dropped_where_it_is_not_wanted(form):
    x, w, dy = case(8, 16, 24)
    grad = jax.jit(jax.grad(lambda w, x: jnp.sum(dense(x, w) * dy)))
    text = grad.lower(w, x).compile().as_text() or ""
    assert ("kernel_gradient" in text) == (form == "native")
    assert "input_gradient" not in text


def test_not_a_number_and_infinity_are_passed_on():
    x, w, dy = case(6, 40, 50)
    x, w, dy = x.at[2, 3].set(jnp.nan), w.at[3, 49].set(jnp.inf), dy.at[5, 48].set(jnp.nan)
    y, pull = pulled(dense, x, w)
    dx, dw = pull(dy)
    expected_y, expected_pull = pulled(lax.dot, x, w)
    for ours, plain in zip((y, dx, dw), (expected_y, *expected_pull(dy)), strict=True):
        np.testing.assert_array_equal(jnp.isnan(ours), jnp.isnan(plain))
        np.testing.assert_array_equal(jnp.isinf(ours), jnp.isinf(plain))


def test_other_dtypes_take_the_canonical_form():
    x, w, _ = (a.astype(jnp.bfloat16) for a in case(4, 8, 3))
    y = dense(x, w)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_array_equal(y.astype(jnp.float32), lax.dot(x, w).astype(jnp.float32))


@pytest.mark.parametrize("f", [dense, lambda x, w: dense_sgd(x, w, *RATES)])
def test_loop_scan_and_vmap_agree_with_single_calls(f):
    cases = [case(4, 20, 9, seed) for seed in range(3)]
    x, w, dy = (jnp.stack(arrays) for arrays in zip(*cases, strict=True))

    def step(x, w, dy):
        y, pull = jax.vjp(f, x, w)
        return y, *pull(dy)

    expected = [jnp.stack(a) for a in zip(*(step(*c) for c in cases), strict=True)]

    def in_fori(i, filled):
        return tuple(a.at[i].set(b) for a, b in zip(filled, step(x[i], w[i], dy[i]), strict=True))

    blank = tuple(jnp.zeros_like(a) for a in expected)
    outcomes = {
        "fori": jax.jit(lambda: lax.fori_loop(0, 3, in_fori, blank))(),
        "scan": lax.scan(lambda c, a: (c, step(*a)), 0, (x, w, dy))[1],
        "map": lax.map(lambda a: step(*a), (x, w, dy)),
        "vmap": jax.vmap(step)(x, w, dy),
    }
    for outcome in outcomes.values():
        for ours, plain in zip(outcome, expected, strict=True):
            np.testing.assert_allclose(ours, plain, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("check_vma", [False, True])
def test_over_two_devices_each_works_on_its_own_weight(check_vma):
    cases = [case(4, 20, 9, seed) for seed in range(2)]
    x, w, dy = (jnp.stack(arrays) for arrays in zip(*cases, strict=True))
    split = jax.sharding.PartitionSpec("clients")

    def block(x, w, dy):
        _, pull = jax.vjp(lambda x, w: dense_sgd(x, w, *RATES), x[0], w[0])
        return tuple(a[None] for a in pull(dy[0]))

    run = jax.shard_map(
        block,
        mesh=jax.make_mesh((2,), ("clients",), axis_types=(jax.sharding.AxisType.Auto,)),
        in_specs=split,
        out_specs=split,
        check_vma=check_vma,
    )
    dx, new_w = jax.jit(run)(x, w, dy)
    for k, (x, w, dy) in enumerate(cases):
        np.testing.assert_allclose(dx[k], dy @ w.T, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(new_w[k], 0.9 * w - 0.1 * (x.T @ dy), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((4, 3), (2, 5)), r"x must be \[B, F\] and w \[F, O\]; got shapes \(4, 3\) and \(2, 5\)"),
        (((4,), (4, 5)), r"x must be \[B, F\]"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(shapes, message):
    x, w = (jnp.ones(shape) for shape in shapes)
    with pytest.raises(ValueError, match=message):
        dense(x, w)
    with pytest.raises(ValueError, match=message):
        dense_sgd(x, w, *RATES)


def test_mixed_dtypes_and_rates_that_are_no_scalars_are_refused():
    x, w, _ = case(4, 3, 2)
    with pytest.raises(ValueError, match="one dtype; got bfloat16 and float32"):
        dense(x.astype(jnp.bfloat16), w)
    with pytest.raises(ValueError, match=r"learning_rate and decay must be scalars"):
        dense_sgd(x, w, jnp.ones(2), jnp.ones(2))
