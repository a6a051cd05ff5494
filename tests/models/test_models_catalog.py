from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fedjax_kd import kernels
from fedjax_kd.models import MODELS, build_model

IMAGES = ((8, 8, 1), (28, 28, 1), (32, 32, 3))
SEQUENCE = (100, 6)
NATURAL = [
    (name, shape)
    for name, architecture in MODELS.items()
    for shape in (
        *(IMAGES if architecture.input_kind != "sequence" else ()),
        *((SEQUENCE,) if architecture.input_kind != "image" else ()),
    )
]
VARIANTS = [
    ("mlp", {"hidden": (32, 16)}),
    ("resnet8", {"norm": "batch"}),
    ("cnn5", {"width": 0.5}),
]


@pytest.mark.parametrize(("name", "shape"), NATURAL)
def test_every_entry_takes_its_natural_inputs(name, shape):
    model = build_model(name, input_shape=shape, n_classes=7)
    variables = jax.eval_shape(model.init, jax.random.key(0))
    inputs = jax.ShapeDtypeStruct((5, *shape), jnp.float32)
    logits, stats = jax.eval_shape(lambda v, x: model.apply(v, x, True), variables, inputs)
    assert (logits.shape, logits.dtype) == ((5, 7), jnp.float32)
    assert set(variables["params"]) == {"extractor", "head"}
    assert stats == variables["stats"]


@pytest.mark.parametrize(
    ("name", "options"), [*((name, {}) for name in MODELS), *VARIANTS], ids=str
)
def test_every_entry_has_finite_gradients_that_reach_every_parameter(name, options):
    shape = (12, 6) if name == "cnn1d" else (8, 8, 1)
    model = build_model(name, input_shape=shape, n_classes=3, **options)
    inputs = np.random.default_rng(0).standard_normal((4, *shape), np.float32)

    @partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # compiles faster
    def gradient(key, inputs):
        variables = model.init(key)
        # The scales of residual branches start at zero and would let no gradient past.
        params = jax.tree.map(lambda a: a + 0.01, variables["params"])

        def loss(params):
            bound = {"params": params, "stats": variables["stats"]}
            logits, _ = model.apply(bound, inputs, True)
            return -jnp.mean(jax.nn.log_softmax(logits)[:, 0])

        return jax.grad(loss)(params)

    for path, leaf in jax.tree.leaves_with_path(gradient(jax.random.key(0), inputs)):
        assert np.all(np.isfinite(leaf)), path
        assert np.any(leaf != 0), path


@pytest.mark.parametrize("name", MODELS)
def test_training_states_canonical_convolutions_only(name):
    shape = SEQUENCE if name == "cnn1d" else (8, 8, 1)
    model = build_model(name, input_shape=shape, n_classes=3)
    variables = jax.eval_shape(model.init, jax.random.key(0))
    inputs = jax.ShapeDtypeStruct((2, *shape), jnp.float32)

    def loss(params, x):
        return jnp.sum(model.apply({"params": params}, x, True)[0])

    with kernels.using("canonical"):
        text = str(jax.make_jaxpr(jax.grad(loss))(variables["params"], inputs))
    convolutions = text.count("conv_general_dilated[")
    canonical = (
        "dimension_numbers=ConvDimensionNumbers(lhs_spec=(0, 3, 1, 2), rhs_spec=(3, 2, 0, 1), "
        "out_spec=(0, 3, 1, 2))"
    )
    assert (convolutions > 0) == (name != "mlp")
    assert text.count(canonical) == convolutions


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cnn6", {}, "name must be one of mlp, lenet, cnn1"),
        ("mlp", {"width": 0.5}, r"'mlp' takes no width \(got 0.5\), only hidden"),
        ("mlp", {"hidden": ()}, "hidden must be one or more integers"),
        ("mlp", {"hidden": (8, 0)}, r"got \(8, 0\)"),
        ("cnn1", {"norm": "batch"}, "takes no norm"),
        ("cnn1", {"width": 0.0}, "width must be a positive number; got 0.0"),
        ("cnn1", {"width": float("nan")}, "width must be a positive number; got nan"),
        ("resnet8", {"norm": "layer"}, "norm must be 'group' or 'batch'; got 'layer'"),
        ("resnet8", {"hidden": (8,)}, "only width, norm"),
        ("cnn1", {"input_shape": (8, 8)}, r"takes inputs \[H, W, channels\]; got .*\(8, 8\)"),
        ("cnn1", {"input_shape": (3, 8, 1)}, r"at least 4 along each axis but the last"),
        ("cnn1d", {"input_shape": (8, 8, 1)}, r"takes inputs \[T, channels\]"),
        ("cnn1d", {"input_shape": (3, 6)}, "at least 4"),
        ("mlp", {"input_shape": ()}, "input_shape must be integers"),
        ("mlp", {"input_shape": (8, 0, 1)}, "input_shape must be integers"),
        ("mlp", {"n_classes": 1}, "n_classes must be an integer of at least 2; got 1"),
    ],
)
def test_bad_options_are_refused_by_name(name, options, message):
    with pytest.raises(ValueError, match=message):
        build_model(name, **{"input_shape": (8, 8, 1), "n_classes": 3, **options})
