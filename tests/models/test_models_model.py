from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from fedjax_kd.models import build_model

QUICK = {"xla_backend_optimization_level": 0}


def tiny(norm: Literal["group", "batch"] = "batch"):
    return build_model("resnet8", input_shape=(4, 4, 1), n_classes=3, width=0.25, norm=norm)


def inputs(*shape):
    return jnp.asarray(np.random.default_rng(0).standard_normal(shape, np.float32))


def test_equal_options_share_one_compiled_program():
    traces = 0

    def apply(model, variables, x):
        nonlocal traces
        traces += 1
        return model.apply(variables, x, False)[0]

    jitted = jax.jit(apply, static_argnums=0)
    options = {"input_shape": (4, 4, 1), "n_classes": 3}
    models = [
        build_model("mlp", **options),
        build_model("mlp", hidden=(128,), **options),
        build_model("mlp", hidden=(64,), **options),
    ]
    for model in models:
        jitted(model, model.init(jax.random.key(0)), inputs(2, 4, 4, 1))
    assert models[0] == models[1]
    assert hash(models[0]) == hash(models[1])
    assert models[0] != models[2]
    assert traces == 2


def test_the_head_of_the_features_is_the_model():
    model = build_model("lenet", input_shape=(8, 8, 1), n_classes=3)
    variables = model.init(jax.random.key(0))
    x = inputs(2, 8, 8, 1)
    features, _ = model.features(variables, x, False)
    assert features.shape == (2, 84)
    np.testing.assert_array_equal(
        model.head(variables, features), model.apply(variables, x, False)[0]
    )


def test_weights_start_uniform_within_the_bound_of_their_layer():
    model = build_model("cnn5", input_shape=(16, 16, 3), n_classes=10)
    params = model.init(jax.random.key(0))["params"]
    fan_in = {"Conv_0": 75, "Conv_1": 400, "Dense_0": 32, "Dense_1": 500}
    for name, layer in {**params["extractor"], "head": params["head"]}.items():
        bound = 1 / np.sqrt(fan_in.get(name, 500))
        for leaf in layer.values():
            assert np.max(np.abs(leaf)) <= bound
        kernel = np.asarray(layer["kernel"])
        assert np.max(np.abs(kernel)) > 0.98 * bound
        assert abs(np.std(kernel) / (bound / np.sqrt(3)) - 1) < 0.05
        assert abs(np.mean(kernel)) < 4 * bound / np.sqrt(3 * kernel.size)


def test_a_residual_network_starts_as_its_shortcuts():
    params = tiny().init(jax.random.key(0))["params"]
    block = params["extractor"]["Block_0"]
    assert np.all(block["Norm_1"]["scale"] == 0)
    assert np.all(block["Norm_0"]["scale"] == 1)
    assert "bias" not in block["Conv_0"]
    kernel = block["Conv_1"]["kernel"]  # 3x3, 4 to 4
    assert 0.9 * np.sqrt(6 / 72) < np.max(np.abs(kernel)) <= np.sqrt(6 / 72)
    assert np.all(params["head"]["bias"] == 0)


def test_layers_of_one_shape_and_keys_start_differently():
    model = build_model("mlp", input_shape=(9,), n_classes=9, hidden=(9, 9))
    many = jax.jit(jax.vmap(model.init))(jax.random.split(jax.random.key(0), 2))["params"]
    kernels = [
        *many["extractor"]["Dense_0"]["kernel"],
        *many["extractor"]["Dense_1"]["kernel"],
        *many["head"]["kernel"],
    ]
    assert len({kernel.tobytes() for kernel in map(np.asarray, kernels)}) == 6
    again = model.init(jax.random.split(jax.random.key(0), 2)[1])["params"]
    np.testing.assert_array_equal(again["head"]["kernel"], many["head"]["kernel"][1])


def test_padding_is_invisible_to_the_real_examples_and_the_statistics():
    model = tiny()
    variables = model.init(jax.random.key(0))
    x = inputs(3, 4, 4, 1)
    padded = jnp.concatenate([x, jnp.full((2, 4, 4, 1), 9.0)])
    mask = jnp.array([True, True, True, False, False])
    apply = jax.jit(lambda v, x, mask: model.apply(v, x, True, mask), compiler_options=QUICK)
    logits, stats = apply(variables, x, None)
    masked_logits, masked_stats = apply(variables, padded, mask)
    np.testing.assert_allclose(masked_logits[:3], logits, atol=1e-4)
    for a, b in zip(jax.tree.leaves(masked_stats), jax.tree.leaves(stats), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_statistics_are_carried_through_a_loop_and_kept_in_evaluation():
    model = tiny()
    variables = model.init(jax.random.key(0))
    x = inputs(2, 3, 4, 4, 1)

    def train(variables, x):
        def step(stats, batch):
            logits, stats = model.apply({**variables, "stats": stats}, batch, True)
            return stats, logits

        return lax.scan(step, variables["stats"], x)[0]

    stats = jax.jit(train, compiler_options=QUICK)(variables, x)
    assert jax.tree.structure(stats) == jax.tree.structure(variables["stats"])
    leaves = zip(jax.tree.leaves(stats), jax.tree.leaves(variables["stats"]), strict=True)
    assert all(np.any(after != before) for after, before in leaves)

    _, kept = jax.eval_shape(lambda v: model.apply(v, x[0], False), variables)
    assert jax.tree.structure(kept) == jax.tree.structure(stats)


def test_a_model_without_running_statistics_returns_none():
    model = tiny(norm="group")
    variables = jax.eval_shape(model.init, jax.random.key(0))
    assert variables["stats"] == {}
    _, stats = jax.eval_shape(lambda v: model.apply(v, inputs(2, 4, 4, 1), True), variables)
    assert stats == {}


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (
            np.zeros((2, 5, 4, 1), np.float32),
            r"takes inputs \[B, 4, 4, 1\]; got shape \(2, 5, 4, 1\)",
        ),
        (np.zeros((4, 4, 1), np.float32), r"got shape \(4, 4, 1\)"),
        (np.zeros((2, 4, 4, 1), np.uint8), "takes float32 inputs; got uint8"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(x, message):
    model = build_model("mlp", input_shape=(4, 4, 1), n_classes=3)
    variables = jax.eval_shape(model.init, jax.random.key(0))
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda v: model.apply(v, x, False), variables)
