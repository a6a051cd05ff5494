import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fedjax_kd.distill import masked_mean
from fedjax_kd.kernels.native import use_native
from fedjax_kd.models import build_model
from fedjax_kd.training.local_update import local_update
from fedjax_kd.training.optimiser import rates, sgd

N, BATCH = 10, 4


MODEL = build_model("mlp", input_shape=(5,), n_classes=3, hidden=(7,))


def problem():
    keys = jax.random.split(jax.random.key(0), 3)
    params = MODEL.init(keys[0])["params"]
    inputs = jax.random.normal(keys[1], (N, 5))
    labels = jax.random.randint(keys[2], (N,), 0, 3)
    return params, inputs, labels


def losses_of(params, inputs, labels):
    logits, _ = MODEL.apply({"params": params, "stats": {}}, inputs, train=True)
    return optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels)


def train(values, params, inputs, labels, proximal=0.0):
    start = params

    def batch_loss(params, stats, batch):
        losses = losses_of(params, inputs[batch.positions], labels[batch.positions])
        loss = masked_mean(losses, batch.mask)
        if proximal:
            squares = jax.tree.map(lambda a, b: jnp.sum((a - b) ** 2), params, start)
            loss += proximal * sum(jax.tree.leaves(squares))
        return loss, stats

    def run(key, variables):
        return local_update(
            key,
            variables,
            jnp.int32(N),
            batch_loss,
            sgd(values),
            capacity=N,
            epochs=2,
            batch_size=BATCH,
        )

    arguments = (jax.random.key(3), {"params": params, "stats": {}})
    return *jax.jit(run)(*arguments), "sgd_in_place" in str(jax.make_jaxpr(run)(*arguments))


@pytest.mark.parametrize(
    ("given", "present"),
    [
        ({}, ()),
        ({"momentum": 0.9}, ("momentum",)),
        ({"weight_decay": 0.01, "gradient_clip": 1.0}, ("weight_decay", "gradient_clip")),
    ],
)
def test_parts_that_are_zero_are_absent_from_the_program(given, present):
    values = rates(0.1, **given)
    for name in ("momentum", "weight_decay", "gradient_clip"):
        assert (getattr(values, name) is not None) == (name in present)
    assert sgd(values).plain == ("momentum" not in present and "gradient_clip" not in present)
    params, *_ = problem()
    state = sgd(values).init(params)
    kept = [leaf for leaf in jax.tree.leaves(state) if jnp.ndim(leaf) > 0]
    assert bool(kept) == ("momentum" in present)


@pytest.mark.parametrize("weight_decay", [0.0, 0.05])
def test_plain_sgd_is_what_optax_does(weight_decay):
    params, inputs, labels = problem()
    got, loss, in_place = train(rates(0.1, weight_decay=weight_decay), params, inputs, labels)
    assert in_place == use_native()
    # A threshold that clips nothing takes the ordinary path.
    slow, slow_loss, in_place = train(
        rates(0.1, weight_decay=weight_decay, gradient_clip=1e30), params, inputs, labels
    )
    assert not in_place
    chex.assert_trees_all_close(got, slow, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(loss, slow_loss, rtol=1e-5)
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), got["params"], params)
    assert min(jax.tree.leaves(moved)) > 1e-3


def test_a_loss_that_looks_into_the_parameters_is_trained_the_ordinary_way():
    params, inputs, labels = problem()
    got, _, in_place = train(rates(0.1), params, inputs, labels, proximal=0.5)
    assert not in_place
    want, *_ = train(rates(0.1, gradient_clip=1e30), params, inputs, labels, proximal=0.5)
    chex.assert_trees_all_close(got, want, rtol=1e-5, atol=1e-6)
    free, *_ = train(rates(0.1), params, inputs, labels)
    with pytest.raises(AssertionError):
        chex.assert_trees_all_close(got, free, rtol=1e-5, atol=1e-6)
