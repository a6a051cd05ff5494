"""Scores on public rows, and fitting a model to such scores."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fedjax_kd.data import ExampleTable, gather
from fedjax_kd.exchange import fit_student, row_loss, scores_of
from fedjax_kd.models import build_model
from fedjax_kd.training import rates, sgd

KEY = jax.random.key(4)
E, D, C, P = 30, 6, 3, 20


@pytest.fixture(scope="module")
def model():
    return build_model("mlp", input_shape=(D,), n_classes=C, hidden=(8,))


@pytest.fixture(scope="module")
def table():
    inputs = np.random.default_rng(0).normal(size=(E, D)).astype(np.float32)
    return ExampleTable(
        inputs=jnp.asarray(inputs),
        labels=jnp.zeros(E, jnp.int32),
        mean=jnp.zeros(1),
        std=jnp.ones(1),
    )


ROWS = jnp.asarray(np.random.default_rng(1).permutation(E)[:P], jnp.int32)


def test_scores_are_the_forward_pass(model, table):
    variables = model.init(KEY)
    inputs, _ = gather(table, ROWS)
    expected = model.apply(variables, inputs, train=False)[0]
    for batch_size in (7, 20, 64):
        found = scores_of(model, variables, table, ROWS, batch_size=batch_size)
        np.testing.assert_allclose(found, expected, atol=1e-5)
    found = scores_of(model, variables, table, ROWS, batch_size=7, kind="probabilities")
    np.testing.assert_allclose(found, jax.nn.softmax(expected), atol=1e-6)
    some = scores_of(model, variables, table, ROWS, jnp.int32(11), kind="probabilities")
    assert not np.asarray(some)[11:].any()
    np.testing.assert_allclose(some[:11], jax.nn.softmax(expected)[:11], atol=1e-6)
    with pytest.raises(ValueError, match="kind must be"):
        scores_of(model, variables, table, ROWS, kind="odds")  # pyright: ignore[reportArgumentType]


def test_losses_of_one_row():
    logits, target = np.array([1.0, -2.0, 0.5], np.float32), np.array([0.3, 0.7, 0.0], np.float32)

    def softmax(x):
        return np.exp(x) / np.exp(x).sum()

    def one(loss, kind, given, temperature=1.0):
        return float(row_loss(loss, kind, temperature)(jnp.asarray(given), jnp.asarray(logits)))

    said = softmax(logits)
    kl = 0.3 * np.log(0.3 / said[0]) + 0.7 * np.log(0.7 / said[1])
    assert one("kl", "probabilities", target) == pytest.approx(kl, rel=1e-5)
    assert one("ce", "probabilities", target) == pytest.approx(-(target @ np.log(said)), rel=1e-5)
    assert one("mae", "logits", target) == pytest.approx(np.abs(logits - target).mean(), rel=1e-6)
    assert one("mae", "probabilities", target) == pytest.approx(np.abs(said - target).mean(), 1e-5)
    teacher = np.array([2.0, 0.0, -1.0], np.float32)
    q, p = softmax(teacher / 3), softmax(logits / 3)
    expected = 9 * (q * np.log(q / p)).sum()
    assert one("kl", "logits", teacher, 3.0) == pytest.approx(expected, rel=1e-4)
    assert one("kl", "probabilities", softmax(teacher), 3.0) == pytest.approx(expected, rel=1e-4)
    assert one("ce", "logits", teacher) == pytest.approx(
        -(softmax(teacher) @ np.log(said)), rel=1e-5
    )


@pytest.mark.parametrize("loss", ["kl", "ce", "mae"])
def test_gradients_are_finite_at_one_hot_targets_and_leave_the_target_alone(loss):
    one_hot, logits = jnp.eye(3)[0], jnp.array([0.1, 0.2, 0.3])
    one = row_loss(loss, "probabilities")
    assert np.isfinite(jax.grad(one, argnums=1)(one_hot, logits)).all()
    np.testing.assert_array_equal(jax.grad(one)(jnp.full(3, 1 / 3), logits), np.zeros(3))


def fitted(model, table, variables, targets, **options):
    settings = {"loss": "kl", "optimiser": sgd(rates(0.2)), "batch_size": 8} | options
    count = settings.pop("count", jnp.int32(P))
    return fit_student(KEY, variables, ROWS, count, targets, model=model, table=table, **settings)


@pytest.mark.parametrize(
    ("loss", "kind", "length"),
    [
        ("kl", "probabilities", {"epochs": 60}),
        ("kl", "logits", {"steps": 180}),
        ("ce", "probabilities", {"steps": 180}),
        ("mae", "logits", {"epochs": 60}),
    ],
)
def test_a_student_learns_what_the_teacher_says(model, table, loss, kind, length):
    teacher, student = model.init(jax.random.key(8)), model.init(KEY)
    targets = scores_of(model, teacher, table, ROWS, kind=kind)
    options = {"loss": loss, "kind": kind, "temperature": 2.0, **length}
    after, mean = fitted(model, table, student, targets, **options)

    def distance(variables):
        said = scores_of(model, variables, table, ROWS, kind="probabilities")
        wanted = scores_of(model, teacher, table, ROWS, kind="probabilities")
        return float(jnp.mean(jnp.abs(said - wanted)))

    assert distance(after) < 0.6 * distance(student)
    assert np.isfinite(float(mean))


def test_one_step_over_all_rows_is_a_step_down_the_mean_loss(model, table):
    student = model.init(KEY)
    targets = jnp.asarray(np.random.default_rng(2).dirichlet([1.0] * C, P), jnp.float32)
    present = jnp.arange(P) % 3 > 0

    def mean_loss(params):
        inputs, _ = gather(table, ROWS)
        logits = model.apply({"params": params, "stats": {}}, inputs, train=False)[0]
        log_p = jax.nn.log_softmax(logits)
        return jnp.sum(jnp.where(present[:, None], -targets * log_p, 0.0)) / jnp.sum(
            present.astype(jnp.float32)
        )

    loss, gradient = jax.value_and_grad(mean_loss)(student["params"])
    expected = jax.tree.map(lambda w, g: w - 0.2 * g, student["params"], gradient)
    for length in ({"steps": 1}, {"epochs": 1}):
        options = {"loss": "ce", "batch_size": P, "present": present, **length}
        after, mean = fitted(model, table, student, targets, **options)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), after["params"], expected
        )
        assert float(mean) == pytest.approx(float(loss), rel=1e-5)


def test_nothing_to_learn_from_changes_nothing(model, table):
    student, targets = model.init(KEY), jnp.full((P, C), 1 / C)
    for options in ({"steps": 0}, {"epochs": 0}, {"steps": 5, "count": jnp.int32(0)}):
        after, mean = fitted(model, table, student, targets, **options)
        jax.tree.map(np.testing.assert_array_equal, after, student)
        assert float(mean) == 0


def test_rows_past_the_count_have_no_say(model, table):
    student = model.init(KEY)
    targets = jnp.full((P, C), 1 / C)
    spoilt = targets.at[12:].set(jnp.eye(C)[0])
    one, other = (
        fitted(model, table, student, given, epochs=2, count=jnp.int32(12))[0]
        for given in (targets, spoilt)
    )
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_mapped_over_servers_and_with_another_optimiser(model, table):
    keys = jax.random.split(KEY, 2)
    students = jax.vmap(model.init)(keys)
    targets = jnp.asarray(np.random.default_rng(5).dirichlet([1.0] * C, (2, P)), jnp.float32)

    def one_server(key, student, targets):
        return fit_student(
            key,
            student,
            ROWS,
            jnp.int32(P),
            targets,
            model=model,
            table=table,
            loss="kl",
            optimiser=optax.sgd(0.1, momentum=0.9),
            batch_size=8,
            steps=7,
        )

    mapped, losses = jax.jit(jax.vmap(one_server))(keys, students, targets)
    for s in range(2):
        own = jax.tree.map(lambda leaf, s=s: leaf[s], students)
        alone, loss = one_server(keys[s], own, targets[s])
        jax.tree.map(
            lambda a, b, s=s: np.testing.assert_allclose(a[s], b, atol=1e-5), mapped, alone
        )
        assert float(losses[s]) == pytest.approx(float(loss), rel=1e-4)


def test_options_of_a_fit_are_checked(model, table):
    student, targets = model.init(KEY), jnp.full((P, C), 1 / C)
    for options, message in (
        ({}, "steps, epochs: None, None"),
        ({"steps": 1, "epochs": 1}, "steps, epochs: 1, 1"),
        ({"steps": 1, "loss": "mse"}, "loss must be"),
        ({"steps": 1, "kind": "odds"}, "kind must be"),
    ):
        with pytest.raises(ValueError, match=message):
            fitted(model, table, student, targets, **options)
    with pytest.raises(ValueError, match=r"targets: shape \(20, 2\); allowed: \(20, 3\)"):
        fitted(model, table, student, targets[:, :2], steps=1)
