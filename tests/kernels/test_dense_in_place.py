import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_kd.kernels import (
    InPlace,
    dense,
    descend,
    mark_in_place,
    native_status,
    unmark,
    updated_in_place,
    using,
)
from fedjax_kd.models import build_model
from fedjax_kd.models.layers import Dense

RATE, DECAY = jnp.float32(0.1), jnp.float32(0.99)
MLP = build_model("mlp", input_shape=(20,), n_classes=7, hidden=(33, 18))
ALL = {("extractor", "Dense_0"), ("extractor", "Dense_1"), ("head",)}


@pytest.fixture(params=["canonical", "native"], autouse=True)
def form(request):
    if request.param == "native" and not native_status().available:
        pytest.skip(native_status().reason)
    with using(request.param):
        yield request.param


def names(paths):
    return {tuple(part.key for part in path[:-1]) for path in paths}


def apply(layer, params, x) -> jax.Array:
    return layer.apply({"params": params}, x)


def start():
    params = MLP.init(jax.random.key(0))["params"]
    x = jax.random.normal(jax.random.key(1), (5, 8, 20))
    labels = jax.random.randint(jax.random.key(2), (5, 8), 0, 7)
    return params, x, labels


def loss(params, x, labels):
    logits, _ = MLP.apply({"params": params, "stats": {}}, x, True)
    one_hot = jax.nn.one_hot(labels, 7)
    return -jnp.mean(jnp.sum(one_hot * jax.nn.log_softmax(logits), axis=1))


def ordinary_step(params, x, labels):
    gradient = jax.grad(loss)(params, x, labels)
    return jax.tree.map(lambda p, g: DECAY * p - RATE * g, params, gradient)


def in_place_step(params, x, labels):
    gradient = jax.grad(lambda marked: loss(marked, x, labels))
    safe = updated_in_place(gradient, params, RATE, DECAY)
    assert names(safe) == ALL
    return descend(params, gradient(mark_in_place(params, RATE, DECAY, safe)), RATE, DECAY)


def test_marking_takes_the_matrices_called_kernel_and_nothing_else():
    params = build_model("lenet", input_shape=(8, 8, 1), n_classes=3).init(jax.random.key(0))[
        "params"
    ]
    marked = mark_in_place(params, RATE, DECAY)
    found = [
        path
        for path, node in jax.tree.leaves_with_path(
            marked, is_leaf=lambda n: isinstance(n, InPlace)
        )
        if isinstance(node, InPlace)
    ]
    assert names(found) == ALL
    assert all(path[-1].key == "kernel" for path in found)
    restored = unmark(marked)
    assert jax.tree.structure(restored) == jax.tree.structure(params)
    assert all(a is b for a, b in zip(*map(jax.tree.leaves, (restored, params)), strict=True))


def test_several_steps_in_place_are_several_ordinary_steps():
    params, x, labels = start()

    def train(step):
        def body(i, p):
            return step(p, x[i], labels[i])

        return jax.jit(lambda p: jax.lax.fori_loop(0, 5, body, p))(params)

    ours, expected = train(in_place_step), train(ordinary_step)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_no_weight_is_copied_in_a_loop_that_trains_in_place(form):
    if form == "canonical":
        pytest.skip("there XLA decides what is copied")
    params, x, labels = start()
    loop = jax.jit(
        lambda p: jax.lax.fori_loop(0, 5, lambda i, p: in_place_step(p, x[i], labels[i]), p),
        donate_argnums=0,
    )
    lines = (loop.lower(params).compile().as_text() or "").splitlines()
    for shape in ("20,33", "33,18", "18,7"):
        made = [line.split("} ", 1)[1] for line in lines if f"= f32[{shape}]" in line]
        operations = {text.split("(")[0] for text in made}
        assert operations <= {"parameter", "get-tuple-element", "custom-call"}
        assert made


@pytest.mark.parametrize("wrap", [jax.jit, jax.checkpoint])
def test_a_loss_inside_jit_or_checkpoint_is_seen_through(wrap):
    params, x, labels = start()
    gradient = jax.grad(lambda marked: wrap(loss)(marked, x[0], labels[0]))
    assert names(updated_in_place(gradient, params, RATE, DECAY)) == ALL
    new = descend(params, gradient(mark_in_place(params, RATE, DECAY)), RATE, DECAY)
    expected = ordinary_step(params, x[0], labels[0])
    for a, b in zip(jax.tree.leaves(new), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def twice(params, x, labels):
    return loss(params, x, labels) + loss(params, 2 * x, labels)


def head_decayed(params, x, labels):
    return loss(params, x, labels) + jnp.sum(unmark(params["head"])["kernel"] ** 2)


def in_a_scan(params, x, labels):
    return jnp.sum(jax.lax.map(lambda a: loss(params, *a), (x[None], labels[None])))


def features_only(params, x, labels):
    del labels
    logits, _ = MLP.apply({"params": params, "stats": {}}, x, True)
    features, _ = MLP.features({"params": params, "stats": {}}, x, True)
    return jnp.sum(features**2) + jnp.sum(jax.lax.stop_gradient(logits))


@pytest.mark.parametrize(
    ("unusual", "safe"),
    [
        (twice, set()),
        (head_decayed, ALL - {("head",)}),
        (in_a_scan, set()),
        (features_only, ALL - {("head",)}),
    ],
)
def test_a_weight_that_is_not_used_in_just_one_product_is_not_safe(unusual, safe):
    params, x, labels = start()
    gradient = jax.grad(lambda marked: unusual(marked, x[0], labels[0]))
    assert names(updated_in_place(gradient, params, RATE, DECAY)) == safe


def test_a_gradient_that_is_changed_afterwards_is_not_safe():
    params, x, labels = start()

    def halved(marked):
        gradient = jax.grad(lambda marked: loss(marked, x[0], labels[0]))(marked)
        return jax.tree.map(lambda g: g / 2, gradient)

    assert updated_in_place(halved, params, RATE, DECAY) == frozenset()


def test_weights_that_are_not_safe_take_the_ordinary_way_beside_those_that_are():
    params, x, labels = start()
    gradient = jax.grad(lambda marked: head_decayed(marked, x[0], labels[0]))
    safe = updated_in_place(gradient, params, RATE, DECAY)
    new = descend(params, gradient(mark_in_place(params, RATE, DECAY, safe)), RATE, DECAY)
    plain = gradient(params)
    expected = jax.tree.map(lambda p, g: DECAY * p - RATE * g, params, plain)
    for a, b in zip(jax.tree.leaves(new), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_a_weight_that_nothing_uses_is_not_safe():
    params = {"used": {"kernel": jnp.ones((3, 2))}, "idle": {"kernel": jnp.ones((3, 2))}}

    def gradient(marked):
        layer = Dense(2)
        bias = {"bias": jnp.zeros(2)}

        def loss(marked):
            return jnp.sum(apply(layer, marked["used"] | bias, jnp.ones((4, 3))))

        return jax.grad(loss)(marked)

    assert names(updated_in_place(gradient, params, RATE, DECAY)) == {("used",)}


def test_the_layer_gives_the_same_value_marked_or_not():
    params, x, _ = start()
    layer = params["extractor"]["Dense_0"]
    plain = apply(Dense(33), layer, x[0])
    marked = apply(Dense(33), mark_in_place(layer, RATE, DECAY), x[0])
    np.testing.assert_array_equal(plain, marked)
    np.testing.assert_allclose(plain, dense(x[0], layer["kernel"]) + layer["bias"][None, :])
