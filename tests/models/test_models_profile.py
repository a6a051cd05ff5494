import jax
import jax.numpy as jnp
import pytest

from fedjax_kd import kernels
from fedjax_kd.models import MODELS, build_model, forward_flops, profile

CIFAR = {"input_shape": (32, 32, 3), "n_classes": 10}


@pytest.mark.parametrize(
    ("name", "options", "parameters"),
    [
        ("cnn1", {}, 2_621_558),  # pFedAFM's five
        ("cnn2", {}, 1_815_142),
        ("cnn3", {}, 1_320_558),
        ("cnn4", {}, 1_060_358),
        ("cnn5", {}, 670_058),
        ("resnet20", {"norm": "batch"}, 272_762),  # HeteroKDFL's target and auxiliary
        ("resnet20", {"norm": "batch", "width": 0.25}, 18_386),
        ("mlp", {}, 3072 * 128 + 128 + 1290),
    ],
)
def test_parameters_are_the_published_ones(name, options, parameters):
    assert profile(build_model(name, **CIFAR, **options)).parameters == parameters


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("cnn1", 2_616_548),
        ("cnn2", 1_810_132),
        ("cnn3", 1_315_548),
        ("cnn4", 1_055_348),
        ("cnn5", 665_048),
    ],
)
def test_the_extractors_of_pfedafm_are_the_published_ones(name, parameters):
    params = jax.eval_shape(build_model(name, **CIFAR).init, jax.random.key(0))["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params["extractor"])) == parameters
    of_hundred = build_model(name, input_shape=(32, 32, 3), n_classes=100)
    assert profile(of_hundred).parameters == parameters + 50_100


@pytest.mark.parametrize(
    ("name", "options", "multiply_adds"),
    [
        ("mlp", {"hidden": (20, 30)}, 3072 * 20 + 20 * 30 + 30 * 10),
        (
            "cnn1",
            {},
            28**2 * 25 * 3 * 16 + 10**2 * 25 * 16 * 32 + 800 * 2000 + 2000 * 500 + 500 * 10,
        ),
        (
            "lenet",
            {},
            32**2 * 25 * 3 * 6 + 12**2 * 25 * 6 * 16 + 576 * 120 + 120 * 84 + 84 * 10,
        ),
        (
            "resnet8",
            {},
            32**2 * (9 * 3 * 16 + 2 * 9 * 16 * 16 + 16 * 16)
            + 16**2 * (9 * 16 * 32 + 9 * 32 * 32 + 16 * 32)
            + 8**2 * (9 * 32 * 64 + 9 * 64 * 64 + 32 * 64)
            + 640,
        ),
    ],
)
def test_operations_are_those_counted_by_hand(name, options, multiply_adds):
    model = build_model(name, **CIFAR, **options)
    assert forward_flops(model) == 2 * multiply_adds


def test_a_sequence_is_counted_by_hand():
    model = build_model("cnn1d", input_shape=(100, 6), n_classes=9)
    multiply_adds = 5 * (100 * 6 * 32 + 50 * 32 * 64 + 25 * 64 * 64) + 64 * 128 + 128 * 9
    assert forward_flops(model) == 2 * multiply_adds


@pytest.mark.parametrize(("width", "millions"), [(1.0, 41.1), (0.25, 3.47)])
def test_resnet20_has_the_published_multiply_adds(width, millions):
    flops = forward_flops(build_model("resnet20", **CIFAR, norm="batch", width=width))
    assert flops / 2e6 == pytest.approx(millions, rel=2e-3)


def test_the_sums_of_normalisation_are_not_counted():
    group, batch = (
        profile(build_model("resnet8", **CIFAR, norm=norm)) for norm in ("group", "batch")
    )
    assert group.forward_flops == batch.forward_flops
    assert group.parameters == batch.parameters
    statistics = 2 * (16 + 3 * (16 + 32 + 64))
    assert group.bits == 32 * group.parameters
    assert batch.bits == 32 * (batch.parameters + statistics)


def test_training_costs_three_forward_passes():
    costs = profile(build_model("lenet", **CIFAR))
    assert costs.training_flops == 3 * costs.forward_flops


@pytest.mark.parametrize("name", MODELS)
def test_operations_agree_with_those_of_the_compiled_program(name):
    """XLA leaves out products with padding, and counts every elementwise operation: up to 7 %."""
    shape = (100, 6) if name == "cnn1d" else (28, 28, 1)
    model = build_model(name, input_shape=shape, n_classes=10)
    variables = jax.eval_shape(model.init, jax.random.key(0))
    example = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    forward = jax.jit(
        lambda v, x: model.apply(v, x, False)[0],
        compiler_options={"xla_backend_optimization_level": 0},  # compiles faster
    )
    with kernels.using("canonical"):
        analysis = forward.lower(variables, example).compile().cost_analysis()
    assert isinstance(analysis, dict)
    counted = forward_flops(model, count_padding=False)
    assert 1.0 <= analysis["flops"] / counted <= 1.07
    assert counted <= forward_flops(model)
